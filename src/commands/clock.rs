//! Times for people (local, relative) and for programs (RFC 3339, UTC).

use crate::moderation::Timestamp;

pub(super) use crate::pipeline::now;

/// `2026-11-23T21:36:05.123Z`.
pub(super) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

/// `12 s ago`, `3 min ago`, `2 h ago`, `5 d ago`.
pub(super) fn ago(at: Timestamp) -> String {
    let milliseconds = now().0.saturating_sub(at.0);
    format!("{} ago", span(u64::try_from(milliseconds).unwrap_or(0)))
}

/// `0.3 s`, `12 s`, `3 min`, `2 h`, `5 d`.
pub(super) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{}.{} s", seconds, milliseconds / 100),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The last midnight where this machine stands.
pub(super) fn day_start() -> Timestamp {
    let today = jiff::ZonedDateTime::now().start_of_day();
    today.map_or(Timestamp(0), |day| Timestamp(day.timestamp().as_millisecond()))
}

/// The beginnings of the last so many days where this machine stands, today's last.
pub(super) fn days_back(days: u16) -> Vec<Timestamp> {
    let today = jiff::ZonedDateTime::now();
    let day = |back: u16| {
        let then = today.checked_sub(jiff::Span::new().days(i64::from(back))).ok()?;
        Some(Timestamp(then.start_of_day().ok()?.timestamp().as_millisecond()))
    };
    (0..days).rev().filter_map(day).collect()
}

/// `Mon 2026-11-23`, where this machine stands.
pub(super) fn local_day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| at.0.to_string(),
        |at| {
            let here = at.to_zoned_datetime(jiff::tz::TimeZone::system());
            here.strftime("%a %Y-%m-%d").to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let spans = [300, 12_000, 180_000, 7_200_000, 432_000_000].map(span);
        assert_eq!(spans, ["0.3 s", "12 s", "3 min", "2 h", "5 d"]);
    }

    #[test]
    fn programs_get_utc() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Timestamp(1_500)), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn the_day_began_less_than_a_day_and_an_hour_ago() {
        let age = now().0 - day_start().0;
        assert!((0..25 * 3_600_000).contains(&age), "{age}");
    }
}
