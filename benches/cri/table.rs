//! The table that is printed: what was measured here, the floor, and the peers' figures.

/// Durations of one step over many rounds, in milliseconds.
#[derive(Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds the time since `begun`.
    pub fn since(&mut self, begun: std::time::Instant) {
        self.0.push(begun.elapsed().as_secs_f64() * 1e3);
    }

    /// Adds a figure that was measured otherwise.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The value that `percent` of the samples do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
            .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// As [`spread`](Self::spread), for what takes less than a millisecond.
    pub fn fine_spread(&self) -> String {
        let [half, most, nearly] = [50, 90, 99].map(|percent| self.percentile(percent));
        format!("{half:.2} / {most:.2} / {nearly:.2} ms")
    }

    /// `p50 / p90 / p99 ms`.
    pub fn spread(&self) -> String {
        let [half, most, nearly] = [50, 90, 99].map(|percent| self.percentile(percent));
        format!("{half:.1} / {most:.1} / {nearly:.1} ms")
    }
}

/// What the peers cost, measured elsewhere on 2026-11-21: 2 cores, kernel 6.18, cgroup v1 hybrid,
/// runc 1.5.1, CRI-O main 1.37.0 with conmon 2.2.1, containerd main of 2026-08. The absolute
/// figures hold for that run alone; to compare for good, measure a peer here with `--socket`.
const PEERS: [(&str, &str, &str); 16] = [
    ("runc create + start, by hand", "29.3", "29.3"),
    ("CNI bridge ADD, by hand", "22.3", "22.3"),
    ("CNI bridge DEL, by hand", "110", "110"),
    ("pod start", "157", "98.8"),
    ("RunPodSandbox", "108", "42"),
    ("CreateContainer", "6.0", "43"),
    ("StartContainer", "43", "12"),
    ("pod end", "162", "234"),
    ("burst", "12.1 pods/s", "17.5 pods/s"),
    ("ExecSync", "19.0", "17.1"),
    ("ExecSync, 8 at once", "88/s", "96/s"),
    ("relist round", "170 (CPU 258)", "199 (CPU 225)"),
    ("of it ListContainerStats", "91", "80"),
    ("daemon idle, PSS", "69 MB", "76 MB"),
    ("pull", "600 (CPU 628)", "828 (CPU 1226)"),
    ("log", "63 MB/s, 18 s/GB", "174 MB/s, 4.7 s/GB"),
];

/// Rows in the order in which they were measured.
#[derive(Debug)]
pub struct Table {
    /// What a pod start costs by hand, p50 in ms, once it is measured.
    pub floor: Option<f64>,
    name: String,
    rows: Vec<(String, String)>,
}

impl Table {
    /// A table for the runtime of that name.
    pub fn new(name: String) -> Table {
        Table {
            floor: None,
            name,
            rows: Vec::new(),
        }
    }

    /// Adds a row, and prints it already: a long run shows how far it is.
    pub fn add(&mut self, what: &str, figure: String) {
        eprintln!("{what}: {figure}");
        self.rows.push((what.into(), figure));
    }

    /// Prints all rows.
    pub fn print(&self) {
        println!("\nTimes are p50 / p90 / p99 in ms; the peers' p50, measured elsewhere.");
        println!(
            "{:<34} {:>28} {:>18} {:>20}",
            "", self.name, "containerd", "CRI-O"
        );
        for (what, figure) in &self.rows {
            let known = PEERS.iter().find(|(name, ..)| what.starts_with(name));
            // A longer name of the same beginning has a line of its own.
            let exact = PEERS.iter().find(|(name, ..)| what == name).or(known);
            let (_, containerd, crio) = exact.unwrap_or(&("", "", ""));
            println!("{what:<34} {figure:>28} {containerd:>18} {crio:>20}");
        }
    }
}
