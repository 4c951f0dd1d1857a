//! What the dashboard looks like: pictures of the screen, and the looks of single cells.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use ratatui_image::Resize;
use ratatui_image::picker::Picker;
use ratatui_image::protocol::Protocol;

use super::fixtures::{Desk, HOUR, NOW, detail, found, many, past, policy, task, tasks, unjudged};
use crate::moderation::escape::is_unprintable;
use crate::moderation::{
    Action, DayCount, DecisionOutcome, Lease, PolicyHash, PolicyStats, Reason, ReviewStats,
    Reviewer, ReviewerStats, ScoreHistogram, Timestamp,
};
use crate::tui::state::{NoPicture, Numbers, Pictures, RequestId, State, Theme, Watcher};
use crate::tui::{Effect, Event, Key, NoPictures, PictureSource, view};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn screen(state: &State, pictures: &mut dyn PictureSource) -> Buffer {
    let backend = TestBackend::new(state.size.width, state.size.height);
    let mut terminal = Terminal::new(backend).expect("a terminal in memory");
    terminal.draw(|frame| view(frame, state, pictures)).expect("drawn");
    terminal.backend().buffer().clone()
}

fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.area.rows() {
        let mut column = row.x;
        let mut line = String::new();
        while column < row.right() {
            let symbol = buffer[(column, row.y)].symbol();
            line.push_str(symbol);
            let width = ratatui::text::Span::raw(symbol).width().max(1);
            column += u16::try_from(width).expect("narrow");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Draws a scene at all sizes and compares it with `src/tui/snapshots`.
fn picture_of(name: &str, scene: impl Fn(u16, u16) -> Desk) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (width, height) in SIZES {
            let desk = scene(width, height);
            let drawn = text_of(&screen(&desk.state, &mut NoPictures));
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), drawn);
        }
    });
}

#[test]
fn the_queue() {
    picture_of("queue", |width, height| {
        let mut desk = Desk::with(width, height, tasks());
        desk.send(Event::Watcher(Watcher::Watching { rate: 12.34 }));
        desk.press('j');
        desk.press('j');
        desk.press('j');
        desk.answer_detail();
        desk.press('1');
        desk
    });
}

#[test]
fn an_empty_queue() {
    picture_of("empty", |width, height| {
        let mut desk = Desk::with(width, height, Vec::new());
        desk.send(Event::Watcher(Watcher::Absent));
        desk
    });
}

#[test]
fn the_list_of_keys() {
    picture_of("help", |width, height| {
        let mut desk = Desk::explained(width, height, tasks());
        desk.press('?');
        desk
    });
}

#[test]
fn the_list_of_policies() {
    picture_of("filter", |width, height| {
        let mut desk = Desk::explained(width, height, tasks());
        desk.press('p');
        let id = desk.last_id(|effect| match effect {
            Effect::LoadPolicyCounts { id } => Some(*id),
            _ => None,
        });
        let counts =
            vec![(policy("weapons"), 97), (policy("documents"), 31), (policy("screenshots"), 12)];
        desk.send(Event::PolicyCountsLoaded { id, counts });
        desk.press('j');
        desk
    });
}

#[test]
fn a_hidden_item() {
    picture_of("hidden", |width, height| {
        Desk::explained(width, height, vec![task(1, "pills", 0.97, "IMG_2031.jpg")])
    });
}

#[test]
fn an_undecodable_item_and_a_lost_race() {
    picture_of("undecodable", |width, height| {
        let reason = Reason::Undecodable("the file ends after 37 of 8192 bytes".into());
        let rows = vec![task(1, "weapons", 0.97, "IMG_2031.jpg"), unjudged(2, reason, "x.webp")];
        let mut desk = Desk::explained(width, height, rows);
        desk.press('r');
        desk.answer_detail();
        let outcome =
            DecisionOutcome::AlreadyDecided(past(5, 1, "ben", Action::Escalate, 2 * HOUR));
        let id = desk.decide_id();
        desk.send(Event::Decided { id, outcome });
        desk
    });
}

#[test]
fn a_group_that_is_about_to_be_decided() {
    picture_of("group", |width, height| {
        let mut rows = tasks()[1..].to_vec();
        rows[0].group = 3;
        let mut desk = Desk::explained(width, height, rows);
        desk.press('1');
        desk.press('r');
        let id = desk.group_id();
        let mut group = tasks()[1..4].to_vec();
        let reviewer = Reviewer::new("ben").expect("a name");
        group[2].lease = Some(Lease { reviewer, until: Timestamp(NOW.0 + HOUR) });
        desk.send(Event::GroupLoaded { id, tasks: group });
        desk
    });
}

#[test]
fn what_a_search_found() {
    picture_of("results", |width, height| {
        let mut desk = Desk::explained(width, height, tasks());
        desk.search("a dog on a beach");
        desk.press(' ');
        desk
    });
}

#[test]
fn an_adapter_is_named_beside_what_the_words_say() {
    let mut desk = Desk::with(120, 40, tasks()[1..].to_vec());
    let mut known = detail(tasks()[1].clone());
    for verdict in &mut known.policies {
        verdict.adapter = Some(policy("weapons-probe-006e23"));
    }
    desk.answer_detail_with(known);
    let drawn = text_of(&screen(&desk.state, &mut NoPictures));
    assert!(drawn.contains("adapted by weapons-probe-006e23; the words alone say 0.42"), "{drawn}");
}

#[test]
fn marks_groups_leases_and_neighbours() {
    picture_of("marks", |width, height| {
        let mut rows = tasks()[1..].to_vec();
        rows[0].group = 12;
        let reviewer = Reviewer::new("ben").expect("a name");
        rows[1].lease = Some(Lease { reviewer, until: Timestamp(NOW.0 + HOUR) });
        let mut desk = Desk::explained(width, height, rows);
        let id = desk.last_id(|effect| match effect {
            Effect::LoadNeighbours { id, .. } => Some(*id),
            _ => None,
        });
        let mut near = vec![found(1, 0.94, "near.jpg"), found(2, 0.87, "far.jpg")];
        near[0].item.decision = Some(Action::Remove);
        near[1].item.decision = Some(Action::Approve);
        desk.send(Event::Neighbours { id, found: near });
        desk.send(Event::Exposures { count: 17 });
        desk.press(' ');
        desk.press('k');
        desk.answer_detail();
        desk
    });
}

#[test]
fn the_numbers() {
    picture_of("numbers", |width, height| {
        let mut desk = Desk::explained(width, height, tasks());
        desk.send(Event::Key(Key::Tab));
        let id = desk.last_id(|effect| match effect {
            Effect::LoadNumbers { id } => Some(*id),
            _ => None,
        });
        desk.send(Event::NumbersLoaded { id, numbers: Box::new(numbers()) });
        desk
    });
}

fn numbers() -> Numbers {
    let day = |start, opened, closed, waiting| DayCount {
        start: Timestamp(start),
        opened,
        closed,
        waiting,
    };
    let mut histogram = ScoreHistogram::empty(policy("weapons"), PolicyHash([0; 32]));
    for (score, items) in [(0.01, 9_000), (0.3, 70), (0.62, 12), (0.97, 3)] {
        histogram.add(ScoreHistogram::bin_of(score), items);
    }
    Numbers {
        stats: ReviewStats {
            days: vec![day(0, 120, 20, 100), day(1, 30, 90, 40), day(2, 5, 1, 44)],
            reviewers: vec![ReviewerStats {
                reviewer: Reviewer::new("ana").expect("a name"),
                approved: 60,
                removed: 48,
                escalated: 3,
                exposures: 17,
            }],
            policies: vec![
                PolicyStats { policy: policy("memes"), waiting: 4, removed: 0, approved: 0 },
                PolicyStats { policy: policy("weapons"), waiting: 40, removed: 45, approved: 15 },
            ],
        },
        days: ["Sat 2026-11-21", "Sun 2026-11-22", "Mon 2026-11-23"].map(str::to_owned).to_vec(),
        histograms: vec![histogram],
        watchers: vec![
            "/srv/uploads: 12.3 pictures/s, 0 waiting, lag 0.0 s, tract, model builtin".into(),
        ],
    }
}

#[test]
fn hostile_names() {
    picture_of("hostile", |width, height| {
        let mut desk = Desk::with(width, height, hostile());
        desk.press('r');
        desk.answer_detail();
        let id = desk.picture_id();
        let why = NoPicture::Unreadable("\u{1b}]52;c;ZXZpbA==\u{7}".into());
        desk.send(Event::PictureFailed { id, why });
        desk
    });
}

#[test]
fn typing_a_note_while_something_is_pending() {
    picture_of("note", |width, height| {
        let mut desk = Desk::explained(width, height, tasks());
        desk.press('a');
        desk.answer_detail();
        desk.press('n');
        for character in "a toy, see the orange tip".chars() {
            desk.press(character);
        }
        desk
    });
}

fn hostile() -> Vec<crate::moderation::ReviewTask> {
    let mut rows: Vec<_> = [
        "\u{1b}[2J\u{1b}]0;pwned\u{7}.jpg",
        "a\u{202e}gpj.exe",
        "line\nbreak\tand\u{200b}nothing.png",
        "\u{9b}31mred.gif",
        "日本語の長い長い長い長い長い長い名前.png",
        "e\u{301}\u{302}\u{303}\u{304}.png",
        "👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦.webp",
    ]
    .iter()
    .zip([(1, 0.98), (2, 0.97), (3, 0.96), (4, 0.95), (5, 0.94), (6, 0.93), (7, 0.92)])
    .map(|(name, (id, score))| task(id, "weapons", score, name))
    .collect();
    let reason = Reason::Undecodable("\u{1b}[31mnot a picture\u{1b}[0m".into());
    rows.push(unjudged(99, reason, &"x".repeat(255)));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        rows[0].path = std::ffi::OsStr::from_bytes(b"/srv/uploads/\xff\xfe\x1b[2J.jpg").into();
    }
    rows
}

#[test]
fn nothing_from_an_upload_reaches_a_cell_unescaped() {
    for index in 0..hostile().len() {
        let mut desk = Desk::with(120, 40, hostile());
        for _ in 0..index {
            desk.press('j');
        }
        desk.answer_detail();
        desk.press('n');
        desk.send(Event::Paste("\u{1b}[2J\u{202e}".into()));
        desk.send(Event::Key(Key::Enter));
        desk.press('a');
        let id = desk.decide_id();
        desk.send(Event::Failed { id, why: "\u{1b}[2J".into() });
        let buffer = screen(&desk.state, &mut NoPictures);
        for cell in buffer.content() {
            // ratatui drops controls by itself; invisible characters must be gone by our doing.
            assert!(!cell.symbol().chars().any(is_unprintable), "{:?}", cell.symbol());
        }
        let text = text_of(&buffer);
        assert!(text.contains("\\u{") || text.contains("\\x"), "they are spelled out:\n{text}");
    }
}

#[test]
fn a_tiny_window_says_so() {
    for (width, height) in [(20, 5), (59, 40), (100, 13), (3, 2), (1, 1)] {
        let mut desk = Desk::explained(80, 24, tasks());
        desk.send(Event::Resized { width, height });
        let text = text_of(&screen(&desk.state, &mut NoPictures));
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if width >= 20 {
            assert_eq!(words, "the window is too small: 60×14 needed");
        }
    }
}

#[test]
fn every_size_can_be_drawn() {
    for width in (1..=220).step_by(7) {
        for height in (1..=70).step_by(3) {
            for keys in ["", "?", "p", "nabc", "r", "vvv", "G", "]]", "/x", "sx", " a", "   "] {
                let mut desk = Desk::explained(80, 24, tasks());
                desk.send(Event::Resized { width, height });
                for key in keys.chars() {
                    desk.press(key);
                }
                screen(&desk.state, &mut NoPictures);
            }
        }
    }
}

/// Every scene that the colours are looked at in.
fn scenes(theme: Theme) -> Vec<State> {
    let mut scenes = Vec::new();
    for keys in ["", "j", "j1", "?", "p", "jn", "ja", "jjjr", "jv", "j ", "/x", "sx"] {
        let mut desk = Desk::with(120, 40, tasks());
        desk.state.theme = theme;
        desk.send(Event::Watcher(Watcher::Absent));
        for key in keys.chars() {
            desk.press(key);
            if matches!(desk.state.detail, crate::tui::state::Detail::Loading { .. }) {
                desk.answer_detail();
            }
        }
        if keys == "ja" {
            let id = desk.decide_id();
            desk.send(Event::Failed { id, why: "the disk is full".into() });
        }
        scenes.push(desk.state);
    }
    scenes
}

#[test]
fn without_colours_no_cell_has_one() {
    for state in scenes(Theme::Plain) {
        for cell in screen(&state, &mut NoPictures).content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{cell:?}");
        }
    }
    let coloured = scenes(Theme::Colour).iter().any(|state| {
        screen(state, &mut NoPictures).content().iter().any(|cell| cell.fg != Color::Reset)
    });
    assert!(coloured, "with colours there are some");
}

#[test]
fn colours_add_nothing_to_the_words() {
    for (plain, coloured) in scenes(Theme::Plain).iter().zip(&scenes(Theme::Colour)) {
        let (plain, coloured) = (screen(plain, &mut NoPictures), screen(coloured, &mut NoPictures));
        assert_eq!(text_of(&plain), text_of(&coloured));
    }
}

#[test]
fn the_selected_row_can_be_seen_without_colour() {
    let mut desk = Desk::explained(80, 24, tasks());
    desk.state.theme = Theme::Plain;
    desk.press('j');
    let buffer = screen(&desk.state, &mut NoPictures);
    let reversed = |row: u16| buffer[(10, row)].modifier.contains(Modifier::REVERSED);
    let pointed = |row: u16| buffer[(1, row)].symbol() == "▸";
    for row in 2..7 {
        assert_eq!((reversed(row), pointed(row)), (row == 3, row == 3), "row {row}");
    }
}

#[test]
fn the_message_says_in_words_what_it_is() {
    let mut desk = Desk::explained(120, 40, many(1, 2));
    desk.press('a');
    let id = desk.decide_id();
    desk.send(Event::Failed { id, why: "the disk is full".into() });
    let text = text_of(&screen(&desk.state, &mut NoPictures));
    assert!(text.contains("error: not recorded: approve 00001.jpg: the disk is full"), "{text}");
}

#[test]
fn the_status_line_shows_only_keys_that_work_now_and_always_the_way_to_help() {
    let keys = |desk: &Desk| {
        let text = text_of(&screen(&desk.state, &mut NoPictures));
        text.lines().last().expect("a line").to_owned()
    };
    let mut desk = Desk::with(120, 40, Vec::new());
    assert!(!keys(&desk).contains("approve") && keys(&desk).ends_with("? help"));
    desk.send(Event::StoreChanged);
    desk.answer_queue(many(1, 1));
    desk.answer_detail();
    assert!(keys(&desk).contains("a approve") && keys(&desk).contains("1-9 reason"));
    desk.press('a');
    assert!(!keys(&desk).contains("approve"), "it is pending");
    desk.press('p');
    assert_eq!(keys(&desk), " Enter take it  Esc close");
    for (width, height) in SIZES {
        let desk = Desk::explained(width, height, tasks());
        assert!(keys(&desk).ends_with("? help"), "{}", keys(&desk));
    }
}

/// A picture of one colour, as the driver would keep it.
struct OnePicture(RequestId, Protocol);

impl PictureSource for OnePicture {
    fn protocol(&mut self, id: RequestId) -> Option<&Protocol> {
        (id == self.0).then_some(&self.1)
    }
}

fn red_picture(desk: &mut Desk) -> OnePicture {
    let id = desk.picture_id();
    desk.send(Event::PictureReady { id });
    let pixels = image::RgbImage::from_pixel(100, 100, image::Rgb([200, 0, 0]));
    let size = ratatui::layout::Size { width: 10, height: 4 };
    let protocol = Picker::halfblocks()
        .new_protocol(pixels.into(), size, Resize::Fit(None))
        .expect("half blocks take everything");
    OnePicture(id, protocol)
}

#[test]
fn the_picture_is_drawn_in_its_pane_and_not_below_a_popup() {
    let red = |buffer: &Buffer| {
        let is_red = |cell: &&ratatui::buffer::Cell| cell.bg == Color::Rgb(200, 0, 0);
        buffer.content().iter().filter(is_red).count()
    };
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let mut pictures = red_picture(&mut desk);
    let buffer = screen(&desk.state, &mut pictures);
    assert!(red(&buffer) > 10, "{}", red(&buffer));
    for row in buffer.area.rows() {
        for column in 0..37 {
            assert_ne!(buffer[(column, row.y)].bg, Color::Rgb(200, 0, 0), "over the queue");
        }
    }
    for (open, close) in [(Key::Char('?'), Key::Char('?')), (Key::Char('p'), Key::Esc)] {
        desk.send(Event::Key(open));
        assert_eq!(red(&screen(&desk.state, &mut pictures)), 0);
        desk.send(Event::Key(close));
    }
    assert!(red(&screen(&desk.state, &mut pictures)) > 10);
    desk.press('V');
    assert_eq!(red(&screen(&desk.state, &mut pictures)), 0, "hidden again");
}

#[test]
fn without_pictures_the_explanation_has_their_room() {
    let mut desk = Desk::with(80, 24, tasks()[1..].to_vec());
    desk.state.pictures = Pictures::Off;
    desk.answer_detail();
    let text = text_of(&screen(&desk.state, &mut NoPictures));
    assert!(!text.contains("safe view") && text.contains("a power drill"), "{text}");
}
