//! Times for people (local, relative) and for programs (RFC 3339, UTC).

use crate::moderation::Timestamp;

pub(super) use crate::pipeline::now;

/// `2026-11-23T21:36:05.123Z`.
pub(super) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

/// `20261123T213605Z`, for the name of a file.
pub(super) fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
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

/// A moment as people type it: a day (`2026-10-01`, from midnight here), an RFC 3339 time, or an
/// age (`90s`, `30m`, `12h`, `30d`, `2w`).
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    if let Some(age) = age(text) {
        return Some(Timestamp(now().0.saturating_sub(age)));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_millisecond()));
    }
    let day: jiff::civil::Date = text.parse().ok()?;
    let midnight = day.to_zoned_datetime(jiff::tz::TimeZone::system()).ok()?;
    Some(Timestamp(midnight.timestamp().as_millisecond()))
}

/// An age in milliseconds: a whole number and `s`, `m`, `h`, `d` or `w`.
pub(super) fn age(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let number = text[..text.len() - 1].trim();
    let count: i64 = number.chars().all(|c| c.is_ascii_digit()).then(|| number.parse().ok())??;
    count.checked_mul(seconds * 1000)
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
    fn moments_are_days_times_and_ages() {
        assert_eq!(moment("1970-01-01T00:00:01.5Z"), Some(Timestamp(1_500)));
        assert_eq!(age("30d"), Some(30 * 86_400_000));
        for wrong in ["", "d", "-3d", "3x", "yesterday", "30 dé", "99999999999999999w"] {
            assert_eq!(moment(wrong), None, "{wrong:?}");
        }
        let day = moment("2026-10-01").expect("a day");
        assert!((day.0 - 1_790_812_800_000).abs() <= 14 * 3_600_000, "{day:?}");
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
