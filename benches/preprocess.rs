//! What one core needs to prepare a picture, for `benches/models/side_by_side.py`, which runs
//! Pillow on the same file: `cargo bench --bench preprocess -- FILE SIZE`.
#![expect(clippy::print_stdout, reason = "it is run by a script")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use modtool::vision::{ImageSpec, Limits, Resample, Resize, decode};

/// Long enough for a mean that holds.
const LONG: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(file), Some(size)) = (arguments.next(), arguments.next()) else {
        println!(
            "preprocess needs a picture and a size; benches/models/side_by_side.py gives them"
        );
        return Ok(());
    };
    let size: u32 = size.parse()?;
    let spec = ImageSpec {
        size,
        resize: Resize::ShortestEdgeCrop,
        shortest_edge: size,
        resample: Resample::Bicubic,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };
    let bytes = std::fs::read(&file)?;
    let limits = Limits::default();
    let picture = image::load_from_memory(&bytes)?.into_rgb8();
    let (width, height) = picture.dimensions();
    let resize = milliseconds(|| {
        let pixels = spec.prepare(width, height, picture.as_raw()).expect("the sizes fit");
        spec.planes(&[pixels], 1, |value| value)
    });
    let exact = milliseconds(|| {
        let views = decode::reference_view(&bytes, &spec, &limits).expect("a good picture").views;
        spec.planes(&views, 1, |value| value)
    });
    let reduced = milliseconds(|| {
        let views = decode::views(&bytes, &spec, &limits).expect("a good picture").views;
        spec.planes(&views, 1, |value| value)
    });
    println!(
        "{{\"resize_crop_normalise_ms\":{resize:.3},\"from_file_exact_ms\":{exact:.3},\
         \"from_file_ms\":{reduced:.3}}}"
    );
    Ok(())
}

/// Mean time of one call.
fn milliseconds<T>(mut call: impl FnMut() -> T) -> f64 {
    black_box(call());
    let (start, mut calls) = (Instant::now(), 0);
    while start.elapsed() < LONG {
        black_box(call());
        calls += 1;
    }
    1000.0 * start.elapsed().as_secs_f64() / f64::from(calls)
}
