//! Makes pictures for the screen, in a thread of its own; pixels never leave memory.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};

use image::RgbImage;
use ratatui::layout::Size;
use ratatui_image::Resize;
use ratatui_image::picker::Picker;
use ratatui_image::protocol::Protocol;

use crate::commands::heat::Artist;
use crate::commands::screen::pixels::{bytes_of, decoded, revealed, uploader_of};
use crate::moderation::{ItemId, PolicyId};
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
pub(super) struct Requests {
    sender: Option<Sender<Request>>,
    /// So many pictures were asked for; a map takes seconds, and is given up when it is moot.
    asked: Arc<AtomicU64>,
}

enum Request {
    Show(Show),
    Prefetch { path: PathBuf, item: ItemId, area: Size },
}

struct Show {
    id: RequestId,
    paths: Vec<PathBuf>,
    item: ItemId,
    reveal: Reveal,
    heat: Option<PolicyId>,
    area: Size,
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
        let picture = decoded(decoders, &bytes, width, height, &uploader_of(paths))?;
        self.0.push_back((item, area, picture.clone()));
        if self.0.len() > DECODED {
            self.0.pop_front();
        }
        Ok(picture)
    }
}

impl Gallery {
    /// Without a picker nothing is ever made, without an artist no maps.
    pub(super) fn open(
        picker: Option<Picker>,
        decoders: Arc<DecoderPool>,
        artist: Option<Artist>,
        events: Sender<Event>,
    ) -> Self {
        let (hang_up, finished) = mpsc::channel();
        let asked = Arc::<AtomicU64>::default();
        let known = Arc::clone(&asked);
        let sender = picker.map(|picker| {
            let (sender, requests) = mpsc::channel();
            let mut studio = Studio { picker, decoders, artist, decoded: Decoded::default() };
            std::thread::spawn(move || make_all(&requests, &mut studio, &known, &hang_up, &events));
            sender
        });
        Self { requests: Requests { sender, asked }, finished, kept: None }
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
            Effect::LoadPicture { id, paths, item, reveal, heat, area } => {
                self.asked.fetch_add(1, Relaxed);
                Request::Show(Show { id, paths, item, reveal, heat, area })
            }
            Effect::Prefetch { path, item, area } => Request::Prefetch { path, item, area },
            _ => return,
        };
        if let Some(sender) = &self.sender {
            // The thread lives as long as this sender.
            let _ = sender.send(request);
        }
    }
}

/// What pictures are made with.
struct Studio {
    picker: Picker,
    decoders: Arc<DecoderPool>,
    artist: Option<Artist>,
    decoded: Decoded,
}

fn make_all(
    requests: &Receiver<Request>,
    studio: &mut Studio,
    asked: &AtomicU64,
    finished: &Sender<(RequestId, Protocol)>,
    events: &Sender<Event>,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Ok(first) = requests.recv() else { return };
            waiting.push_back(first);
        }
        let before = asked.load(Relaxed);
        waiting.extend(requests.try_iter());
        // What was asked for before the latest picture is moot; that one is made first.
        if let Some(latest) = waiting.iter().rposition(|one| matches!(one, Request::Show(_))) {
            waiting.drain(..latest);
        }
        let Some(request) = waiting.pop_front() else { continue };
        // Whatever a strange picture does to the code that shows it, the next one is still made.
        let still_wanted = || asked.load(Relaxed) == before;
        let made = catch_unwind(AssertUnwindSafe(|| studio.make(request, &still_wanted)));
        let (id, made) = match made {
            Ok(Some(made)) => made,
            Ok(None) => continue,
            Err(_) => {
                studio.decoded = Decoded::default();
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

impl Studio {
    /// Nothing for a picture that nobody asked to see yet, or any more.
    fn make(
        &mut self,
        request: Request,
        still_wanted: &dyn Fn() -> bool,
    ) -> Option<(RequestId, Result<Protocol, NoPicture>)> {
        match request {
            Request::Prefetch { path, item, area } => {
                // If it can't be had, that is said when someone wants to see it.
                let _ = self.decoded.picture(&[path], item, area, &self.picker, &self.decoders);
                None
            }
            Request::Show(show) => {
                let picture = if let Some(policy) = &show.heat {
                    self.map(&show, policy, still_wanted).transpose()?
                } else {
                    let Show { paths, item, area, .. } = &show;
                    self.decoded
                        .picture(paths, *item, *area, &self.picker, &self.decoders)
                        .map(|picture| revealed(picture, show.reveal))
                };
                let shown = picture.and_then(|picture| {
                    self.picker
                        .new_protocol(picture.into(), show.area, Resize::Fit(None))
                        .map_err(|error| NoPicture::Undecodable(error.to_string()))
                });
                Some((show.id, shown))
            }
        }
    }

    fn map(
        &mut self,
        show: &Show,
        policy: &PolicyId,
        still_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<RgbImage>, NoPicture> {
        let bytes = bytes_of(&show.paths, show.item, self.decoders.limits().file_bytes)?;
        let reveal = |picture| revealed(picture, show.reveal);
        let Some(artist) = &mut self.artist else { return Ok(None) };
        artist
            .draw(&self.decoders, (&bytes, &uploader_of(&show.paths)), policy, reveal, still_wanted)
            .map_err(|error| NoPicture::Undecodable(format!("{error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::vision::{Limits, SandboxMode};

    /// Stripes two pixels wide, red and blue.
    fn stripes() -> RgbImage {
        RgbImage::from_fn(320, 160, |x, _| {
            if x / 2 % 2 == 0 { image::Rgb([255, 0, 0]) } else { image::Rgb([0, 0, 255]) }
        })
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
        let mut gallery = Gallery::open(Some(Picker::halfblocks()), decoders, None, events);
        let ask = |id, path: &Path, item| Effect::LoadPicture {
            id: RequestId(id),
            paths: vec![path.to_owned()],
            item,
            reveal: Reveal::Full,
            heat: None,
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
