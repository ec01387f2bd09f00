//! `serve`: a registry with the images that churn and verification pull. They are the same in every
//! run: what differs is when things happen to them.

use std::net::TcpListener;

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

/// Serves all of them until it is killed. A process of its own: making them takes a while, and
/// verification is done many times in one boot.
pub fn serve() -> Outcome {
    let listener = TcpListener::bind(ADDRESS).map_err(|error| format!("{ADDRESS}: {error}"))?;
    let fixture = Fixture::serve(listener);
    for number in 0..COUNT {
        fixture.push(&format!("image{number}"), "latest", &make(number));
    }
    println!("serving");
    loop {
        std::thread::park();
    }
}

/// The full name of one.
pub fn name(number: usize) -> String {
    format!("{ADDRESS}/image{number}:latest")
}

/// busybox below all, a layer that two share, a layer of its own.
fn make(number: usize) -> Image {
    let compression = [Compression::Gzip, Compression::Zstd, Compression::None][number % 3];
    Image::builder()
        .layer(samples::busybox_layer(), Compression::Gzip)
        .layer(
            files("shared", 100 + number as u64 / 2, 40),
            Compression::Gzip,
        )
        .layer(files("own", number as u64, 20 + 20 * number), compression)
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
