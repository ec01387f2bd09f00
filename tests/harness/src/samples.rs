//! The images that most tests use.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::image::{Compression, Image};
use crate::layer::Layer;
use crate::tools;

/// busybox with its applets as hard links in /bin, and what programs expect of a small system.
///
/// Hard links, not symlinks: masking /bin/ls must mask that one alone.
pub fn busybox() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        Image::builder()
            .layer(busybox_layer(), Compression::Gzip)
            .set("User", "".into())
            .build()
    })
}

/// The one layer of [`busybox`], to build other images on.
pub fn busybox_layer() -> Layer {
    let program = busybox_program();
    let binary = std::fs::read(&program).unwrap();
    let applets = tools::run(Command::new(&program).arg("--list"));
    let mut layer = Layer::new();
    for dir in [
        "bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var",
    ] {
        layer = layer.dir(dir, 0o755);
    }
    layer = layer
        .dir("tmp", 0o1777)
        .file("etc/passwd", 0o644, PASSWD.as_bytes())
        .file("etc/group", 0o644, GROUP.as_bytes())
        .file("bin/busybox", 0o755, &binary);
    for applet in applets
        .lines()
        .filter(|name| *name != "busybox" && !name.contains('/'))
    {
        layer = layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    layer
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      guest:x:1002:1003:guest:/home/guest:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nusers:x:100:guest\nguest:x:1003:\nnogroup:x:65534:\n";

/// A statically linked busybox: Debian's package is busybox-static, Arch's is busybox.
fn busybox_program() -> PathBuf {
    let program = tools::need("busybox");
    let bytes = std::fs::read(&program).unwrap();
    let dynamic = bytes
        .windows(7)
        .take(4096)
        .any(|window| window == b"/lib64/" || window == b"/lib/ld");
    assert!(
        !dynamic,
        "{}: not static: `make deps` installs busybox-static",
        program.display()
    );
    program
}

/// A gigabyte of zeros in a layer of a megabyte. Its gzip trailer is wrong: nobody should read that
/// far.
pub fn bomb() -> Image {
    use flate2::{Compress, Compression, FlushCompress};
    let header = Layer::new().claim("zeros", 1 << 30).into_tar();
    let mut deflate = Compress::new(Compression::new(6), false);
    // After a full flush the compressor has forgotten everything, so one piece repeats as it is.
    let mut piece = |bytes: &[u8]| {
        let mut out = Vec::with_capacity(16 << 10);
        deflate
            .compress_vec(bytes, &mut out, FlushCompress::Full)
            .unwrap();
        out
    };
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    gzip.extend(piece(&header[..512]));
    gzip.extend(piece(&vec![0; 1 << 20]).repeat(1 << 10));
    gzip.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let diff_id = format!("sha256:{}", "b".repeat(64));
    Image::builder().gzip(gzip).diff_ids(&[&diff_id]).build()
}

/// An image of `layers` layers with `bytes` bytes in all, in files of 4 KiB to 256 KiB, half of
/// which does not compress: about as program trees do.
pub fn bulky(bytes: usize, layers: usize) -> Image {
    let mut noise = Noise(0x2545_F491_4F6C_DD1D);
    let mut builder = Image::builder();
    for number in 0..layers {
        let mut layer = Layer::new().dir(&format!("data{number}"), 0o755);
        let mut left = bytes / layers;
        let mut file = 0;
        while left > 0 {
            let size = left.min(4096 << (noise.next() % 7));
            let path = format!("data{number}/file{file}");
            layer = layer.file(&path, 0o644, &noise.half_compressible(size));
            left -= size;
            file += 1;
        }
        builder = builder.layer(layer, Compression::Gzip);
    }
    builder.build()
}

/// xorshift: the same bytes in every run, without a crate.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn half_compressible(&mut self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size + 16);
        while out.len() < size {
            out.extend_from_slice(&self.next().to_le_bytes());
            out.extend_from_slice(b"program ");
        }
        out.truncate(size);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_bomb_is_a_megabyte_that_inflates_to_a_gigabyte() {
        let bomb = bomb();
        let bytes = &bomb.layers[0].bytes;
        assert!(bytes.len() < 3 << 19, "{}", bytes.len());
        let inflated = flate2::read::GzDecoder::new(bytes.as_slice());
        let size = std::io::copy(&mut inflated.take(64 << 20), &mut std::io::sink()).unwrap();
        assert_eq!(
            size,
            64 << 20,
            "and more; a debug build is too slow for all of it"
        );
    }
}
