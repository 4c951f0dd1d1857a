//! Makes pictures for the screen, in a thread of its own; pixels never leave memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};
use ratatui::layout::Size;
use ratatui_image::Resize;
use ratatui_image::picker::Picker;
use ratatui_image::protocol::Protocol;
use rustix::fs::{Mode, OFlags};

use crate::moderation::ItemId;
use crate::tui::{Effect, Event, NoPicture, PictureSource, RequestId, Reveal};
use crate::vision::DecoderPool;

/// The encoded picture that is on the screen, or about to be.
pub(super) struct Gallery {
    requests: Requests,
    finished: Receiver<(RequestId, Protocol)>,
    kept: Option<(RequestId, Protocol)>,
}

/// Where pictures are asked for.
#[derive(Clone)]
pub(super) struct Requests(Option<Sender<Request>>);

enum Request {
    Show { id: RequestId, paths: Vec<PathBuf>, item: ItemId, reveal: Reveal, area: Size },
    Prefetch { path: PathBuf, item: ItemId, area: Size },
}

/// Pictures that were decoded for the screen, the latest last; never written anywhere.
#[derive(Default)]
struct Decoded(VecDeque<(ItemId, Size, RgbImage)>);

/// So many decoded pictures are kept, the one on the screen included.
const DECODED: usize = 4;

impl Decoded {
    /// The picture at its full sharpness, decoded now unless it is kept.
    fn picture(
        &mut self,
        paths: &[PathBuf],
        item: ItemId,
        area: Size,
        picker: &Picker,
        decoders: &DecoderPool,
    ) -> Result<RgbImage, NoPicture> {
        let kept = self.0.iter().position(|(kept, size, _)| (*kept, *size) == (item, area));
        if let Some(kept) = kept.and_then(|index| self.0.remove(index)) {
            let picture = kept.2.clone();
            self.0.push_back(kept);
            return Ok(picture);
        }
        let bytes = bytes_of(paths, item, decoders.limits().file_bytes)?;
        let font = picker.font_size();
        let width = u32::from(area.width) * u32::from(font.width);
        let height = u32::from(area.height) * u32::from(font.height);
        let shown = |what: &dyn std::fmt::Display| NoPicture::Undecodable(what.to_string());
        let decoded = decoders.preview(&bytes, width, height).map_err(|error| shown(&error))?;
        let picture = decoded.map_err(|flaw| shown(&flaw))?;
        self.0.push_back((item, area, picture.clone()));
        if self.0.len() > DECODED {
            self.0.pop_front();
        }
        Ok(picture)
    }
}

impl Gallery {
    /// Without a picker nothing is ever made.
    pub(super) fn open(
        picker: Option<Picker>,
        decoders: Arc<DecoderPool>,
        events: Sender<Event>,
    ) -> Self {
        let (hang_up, finished) = mpsc::channel();
        let requests = picker.map(|picker| {
            let (sender, requests) = mpsc::channel();
            std::thread::spawn(move || make_all(&requests, &picker, &decoders, &hang_up, &events));
            sender
        });
        Self { requests: Requests(requests), finished, kept: None }
    }

    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

impl PictureSource for Gallery {
    fn protocol(&mut self, id: RequestId) -> Option<&Protocol> {
        // The loop takes one picture at a time: a new one replaces the one before.
        if let Some(latest) = self.finished.try_iter().last() {
            self.kept = Some(latest);
        }
        self.kept.as_ref().filter(|(kept, _)| *kept == id).map(|(_, protocol)| protocol)
    }
}

impl Requests {
    /// Asks for a picture; whatever was asked for before is moot.
    pub(super) fn ask(&self, effect: Effect) {
        let request = match effect {
            Effect::LoadPicture { id, paths, item, reveal, area } => {
                Request::Show { id, paths, item, reveal, area }
            }
            Effect::Prefetch { path, item, area } => Request::Prefetch { path, item, area },
            _ => return,
        };
        if let Some(sender) = &self.0 {
            // The thread lives as long as this sender.
            let _ = sender.send(request);
        }
    }
}

fn make_all(
    requests: &Receiver<Request>,
    picker: &Picker,
    decoders: &DecoderPool,
    finished: &Sender<(RequestId, Protocol)>,
    events: &Sender<Event>,
) {
    let mut decoded = Decoded::default();
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Ok(first) = requests.recv() else { return };
            waiting.push_back(first);
        }
        waiting.extend(requests.try_iter());
        // What was asked for before the latest picture is moot; that one is made first.
        if let Some(latest) = waiting.iter().rposition(|one| matches!(one, Request::Show { .. })) {
            waiting.drain(..latest);
        }
        let Some(request) = waiting.pop_front() else { continue };
        // Whatever a strange picture does to the code that shows it, the next one is still made.
        let made = catch_unwind(AssertUnwindSafe(|| make(request, picker, decoders, &mut decoded)));
        let (id, made) = match made {
            Ok(Some(made)) => made,
            Ok(None) => continue,
            Err(_) => {
                decoded = Decoded::default();
                continue;
            }
        };
        let event = match made {
            Ok(protocol) => {
                if finished.send((id, protocol)).is_err() {
                    return;
                }
                Event::PictureReady { id }
            }
            Err(why) => Event::PictureFailed { id, why },
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// Nothing for a picture that nobody asked to see yet.
fn make(
    request: Request,
    picker: &Picker,
    decoders: &DecoderPool,
    decoded: &mut Decoded,
) -> Option<(RequestId, Result<Protocol, NoPicture>)> {
    match request {
        Request::Prefetch { path, item, area } => {
            // If it can't be had, that is said when someone wants to see it.
            let _ = decoded.picture(&[path], item, area, picker, decoders);
            None
        }
        Request::Show { id, paths, item, reveal, area } => {
            let shown = decoded.picture(&paths, item, area, picker, decoders).and_then(|picture| {
                picker
                    .new_protocol(revealed(picture, reveal).into(), area, Resize::Fit(None))
                    .map_err(|error| NoPicture::Undecodable(error.to_string()))
            });
            Some((id, shown))
        }
    }
}

/// The item's bytes from the first path that has them.
fn bytes_of(paths: &[PathBuf], item: ItemId, limit: u64) -> Result<Vec<u8>, NoPicture> {
    let mut worst = NoPicture::Gone;
    for path in paths {
        match read(path, limit) {
            Ok(Some(bytes)) if ItemId::of_bytes(&bytes) == item => return Ok(bytes),
            Ok(Some(_)) => worst = NoPicture::Replaced,
            Ok(None) => {}
            Err(error) => worst = NoPicture::Unreadable(error.to_string()),
        }
    }
    Err(worst)
}

/// A regular file's bytes; `None` when there is none at the path (any more). Links are not
/// followed, and a pipe can't hang us.
fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Ok(None);
        }
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// As much of the picture as the step shows. What a step leaves out is not in the pixels.
fn revealed(picture: RgbImage, step: Reveal) -> RgbImage {
    let (width, height) = picture.dimensions();
    match step {
        // Never asked for; should it be, nothing is shown.
        Reveal::Hidden => RgbImage::new(width.min(8), height.min(8)),
        // Sixteen pixels along the longer side, grey, smoothed over a third of the room.
        Reveal::Tiny => {
            let few = shrunk(&picture, 16);
            smoothed(&grey(&few), (width / 3).max(1), (height / 3).max(1))
        }
        // Enough to tell a beach from a street, not a face from a face.
        Reveal::Blur => smoothed(&shrunk(&picture, 40), width, height),
        Reveal::Grey => grey(&picture),
        Reveal::Full => picture,
    }
}

fn grey(picture: &RgbImage) -> RgbImage {
    DynamicImage::ImageLuma8(imageops::grayscale(picture)).into_rgb8()
}

/// At most `pixels` along the longer side.
fn shrunk(picture: &RgbImage, pixels: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height).max(1);
    if longer <= pixels {
        return picture.clone();
    }
    let part = |side: u32| (side * pixels / longer).max(1);
    imageops::resize(picture, part(width), part(height), FilterType::Triangle)
}

fn smoothed(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    imageops::resize(picture, width, height, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::{Limits, SandboxMode};

    /// Stripes two pixels wide, red and blue.
    fn stripes() -> RgbImage {
        RgbImage::from_fn(320, 160, |x, _| {
            if x / 2 % 2 == 0 { image::Rgb([255, 0, 0]) } else { image::Rgb([0, 0, 255]) }
        })
    }

    fn contrast(picture: &RgbImage) -> u8 {
        let row = picture.height() / 2;
        let middle = picture.width() / 4..picture.width() * 3 / 4;
        let reds = middle.map(|x| picture.get_pixel(x, row)[0]);
        let (low, high) = reds.fold((255, 0), |(l, h), red| (red.min(l), red.max(h)));
        high - low
    }

    fn is_grey(picture: &RgbImage) -> bool {
        picture.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
    }

    #[test]
    fn every_step_shows_what_it_says_and_no_more() {
        let full = revealed(stripes(), Reveal::Full);
        assert_eq!((contrast(&full), is_grey(&full)), (255, false));
        let grey = revealed(stripes(), Reveal::Grey);
        assert!(is_grey(&grey) && contrast(&grey) > 20);
        assert_eq!(grey.dimensions(), (320, 160));
        let blur = revealed(stripes(), Reveal::Blur);
        assert!(!is_grey(&blur) && contrast(&blur) < 30, "{}", contrast(&blur));
        assert_eq!(blur.dimensions(), (320, 160));
        let tiny = revealed(stripes(), Reveal::Tiny);
        assert!(is_grey(&tiny) && contrast(&tiny) < 30, "{}", contrast(&tiny));
        assert!(tiny.width() < 120);
        let hidden = revealed(stripes(), Reveal::Hidden);
        assert!(hidden.pixels().all(|pixel| pixel.0 == [0, 0, 0]));
    }

    #[test]
    fn every_step_takes_every_size() {
        for (width, height) in [(1, 1), (1, 500), (500, 1), (16, 16), (41, 3)] {
            for step in Reveal::ALL {
                revealed(RgbImage::new(width, height), step);
            }
        }
    }

    #[test]
    fn only_the_items_own_bytes_are_shown() {
        let dir = tempfile::tempdir().expect("a folder");
        let [first, second, gone] =
            ["a.png", "b.png", "gone.png"].map(|name| dir.path().join(name));
        std::fs::write(&first, b"other bytes").expect("written");
        std::fs::write(&second, b"its bytes").expect("written");
        let item = ItemId::of_bytes(b"its bytes");
        let bytes = |paths: &[&PathBuf]| {
            let paths: Vec<_> = paths.iter().map(|path| (*path).clone()).collect();
            bytes_of(&paths, item, 100)
        };
        assert_eq!(bytes(&[&gone, &first, &second]), Ok(b"its bytes".to_vec()));
        assert_eq!(bytes(&[&first]), Err(NoPicture::Replaced));
        assert_eq!(bytes(&[&gone]), Err(NoPicture::Gone));
        assert_eq!(bytes(&[&dir.path().to_owned()]), Err(NoPicture::Gone), "a folder is no file");
        let link = dir.path().join("link.png");
        std::os::unix::fs::symlink(&second, &link).expect("linked");
        assert_eq!(bytes(&[&link]), Err(NoPicture::Gone), "links are not followed");
        std::fs::write(&first, vec![0; 101]).expect("written");
        assert!(matches!(bytes(&[&first]), Err(NoPicture::Unreadable(_))));
    }

    #[test]
    fn a_picture_is_made_and_announced_and_the_latest_request_wins() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.png");
        stripes().save(&path).expect("written");
        let item = ItemId::of_bytes(&std::fs::read(&path).expect("readable"));
        let (events, inbox) = mpsc::channel();
        // Unit tests have no binary to be children; the pseudo-terminal tests see real ones.
        let nowhere = Path::new("/nowhere");
        let decoders = DecoderPool::start(nowhere, SandboxMode::Off, Limits::default());
        let decoders = Arc::new(decoders.expect("needs no child"));
        let mut gallery = Gallery::open(Some(Picker::halfblocks()), decoders, events);
        let ask = |id, path: &Path, item| Effect::LoadPicture {
            id: RequestId(id),
            paths: vec![path.to_owned()],
            item,
            reveal: Reveal::Full,
            area: Size { width: 20, height: 10 },
        };
        let requests = gallery.requests();
        let area = Size { width: 20, height: 10 };
        requests.ask(Effect::Prefetch { path: path.clone(), item, area });
        requests.ask(ask(1, &path, item));
        let wait = std::time::Duration::from_secs(20);
        assert_eq!(inbox.recv_timeout(wait), Ok(Event::PictureReady { id: RequestId(1) }));
        assert!(gallery.protocol(RequestId(1)).is_some_and(|made| made.size().width == 20));
        assert!(gallery.protocol(RequestId(2)).is_none());
        let other = ItemId::of_bytes(b"another");
        requests.ask(ask(2, &dir.path().join("gone.png"), other));
        let gone = Event::PictureFailed { id: RequestId(2), why: NoPicture::Gone };
        assert_eq!(inbox.recv_timeout(wait), Ok(gone));
    }
}
