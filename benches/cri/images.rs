//! A pull of 97 MB in 7 layers from the registry on loopback.

use std::time::Instant;

use cricket_harness::{memory, samples};

use crate::table::{Samples, Table};
use crate::target::Target;

/// Size of the image before compression.
const BYTES: usize = 97_000_000;

/// Three pulls; the image is removed in between.
pub async fn measure(target: &mut Target, table: &mut Table) {
    let image = samples::bulky(BYTES, 7);
    let name = target.registry().push("bulky", "1", &image);
    let compressed: usize = image.layers.iter().map(|layer| layer.bytes.len()).sum();
    let mut times = Samples::default();
    let cpu = memory::cpu_seconds(target.pid()).unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        let id = target.cri.pull(&name).await.unwrap();
        times.since(begun);
        target.cri.remove_image(&id).await.unwrap();
    }
    let cpu = (memory::cpu_seconds(target.pid()).unwrap() - cpu) * 1e3 / 3.0;
    let what = format!("pull of 97 MB, 7 layers ({} MB)", compressed / 1_000_000);
    table.add(
        &what,
        format!("{:.0} ms (CPU {cpu:.0} ms)", times.percentile(50)),
    );
    let daemon = memory::of(target.pid()).unwrap_or_default();
    table.add("daemon after it, PSS", crate::target::mb(daemon.pss));
}
