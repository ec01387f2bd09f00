//! `serve`: a registry with the images that churn and verification pull. They are the same in every
//! run: what differs is when things happen to them. Two of the tags move between two images all the
//! time, and two between two manifests of one image.

use std::net::TcpListener;
use std::time::Duration;

use cricket_harness::hostile::Fixture;
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::samples;
use cricket_node::write_log::Chance;

use crate::Outcome;

/// How many there are.
pub const COUNT: usize = 6;
/// As the installed registries.conf has it.
const ADDRESS: &str = "127.0.0.1:5000";
/// How long a tag stays where it is.
const STAYS: Duration = Duration::from_millis(700);

/// One of the two that a tag can be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    First,
    Second,
}

/// Serves all of them until it is killed. A process of its own: making them takes a while, and
/// verification is done many times in one boot.
pub fn serve() -> Outcome {
    let listener = TcpListener::bind(ADDRESS).map_err(|error| format!("{ADDRESS}: {error}"))?;
    let fixture = Fixture::serve(listener);
    let made = [Variant::First, Variant::Second].map(|variant| {
        (0..COUNT)
            .map(|number| make(number, variant))
            .collect::<Vec<_>>()
    });
    for (turn, images) in made.iter().cycle().enumerate() {
        for (number, image) in images.iter().enumerate() {
            // The first two stay where they are.
            if turn == 0 || number >= 2 {
                fixture.push(&format!("image{number}"), "latest", image);
            }
        }
        if turn == 0 {
            println!("serving");
        }
        std::thread::sleep(STAYS);
    }
    Ok(())
}

/// The full name of one.
pub fn name(number: usize) -> String {
    format!("{ADDRESS}/image{number}:latest")
}

/// busybox below all, a layer that two share, a layer of its own.
fn make(number: usize, variant: Variant) -> Image {
    let is_second = variant == Variant::Second;
    let mut compression = [Compression::Gzip, Compression::Zstd, Compression::None][number % 3];
    let mut own = number as u64;
    match number {
        // the same image by another manifest
        2 if is_second => compression = Compression::Gzip,
        3 if is_second => compression = Compression::Zstd,
        4 | 5 if is_second => own += 50,
        _ => {}
    }
    Image::builder()
        .layer(samples::busybox_layer(), Compression::Gzip)
        .layer(
            files("shared", 100 + number as u64 / 2, 40),
            Compression::Gzip,
        )
        .layer(files("own", own, 20 + 20 * number), compression)
        .set("User", "".into())
        .build()
}

/// Files of 1 byte to 64 KiB in directories, whiteouts of what the layer below may have, links.
fn files(place: &str, seed: u64, count: usize) -> Layer {
    let mut chance = Chance::new(seed + 1);
    let mut layer = Layer::new().dir(place, 0o755);
    for number in 0..count {
        let dir = format!("{place}/{seed}-{}", number / 8);
        if number % 8 == 0 {
            layer = layer.dir(&dir, 0o750);
        }
        let bits = chance.below(16) + 1;
        let size = 1 + chance.below(1 << bits);
        let bytes: Vec<u8> = (0..size.div_ceil(8))
            .flat_map(|_| chance.number().to_le_bytes())
            .take(size)
            .collect();
        let path = format!("{dir}/file{number}");
        layer = layer.file(&path, 0o640, &bytes);
        match number % 5 {
            0 => layer = layer.hard_link(&format!("{dir}/same{number}"), &path),
            1 => layer = layer.symlink(&format!("{dir}/link{number}"), &path),
            2 => layer = layer.file(&format!("shared/.wh.gone{number}"), 0o600, b""),
            _ => {}
        }
    }
    layer
}
