//! Power cuts: the machine is killed in the middle of churn and booted again on the same disk; and
//! one run's disk is looked at as cuts at many moments would have left it, had it lost what was not
//! flushed. After each, the daemon is asked and the store is verified inside.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cricket_node::channel::Running;
use cricket_node::machine::{Disk, SOON};
use cricket_node::write_log::{Chance, WriteLog};
use cricket_node::{Channel, Machine, NodeError, Workshop, image};
use serde_json::Value;

use crate::install::{install, journal};
use crate::options::Options;

/// Where the disk that is cut is mounted; everything of cricket's that survives a reboot is there.
const DATA: &str = "/data";
const DISK: &str = "data";
/// What the daemon mounts in its run root, which a reboot would take away.
const PAUSES: &str = "/run/containers/storage/cricket/pause";
const SIZE: u64 = 2 << 30;
/// One verification pulls, runs and removes everything, under emulation.
const VERIFY: Duration = Duration::from_secs(480);
/// A disk's check.
const FSCK: Duration = Duration::from_secs(300);

/// The rows of the table.
#[derive(Debug, Default)]
struct Row {
    times: usize,
    images: u64,
    certain: u64,
    lost: usize,
    damaged: usize,
    left: usize,
    unusable: usize,
    notes: Vec<String>,
}

pub fn run(workshop: &Workshop, options: &Options) -> Result<(), NodeError> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => Chance::seed()?,
    };
    println!("node: seed {seed}");
    let mut chance = Chance::new(seed);
    prepare(workshop)?;
    let mut kills = Row::default();
    if options.kills > 0 {
        kill(workshop, options.kills, &mut chance, &mut kills)?;
    }
    let mut cuts = Row::default();
    if options.cuts > 0 {
        let (log, pristine) = record(workshop, options, &mut chance)?;
        replay(
            workshop,
            options.cuts,
            (&log, &pristine),
            (&mut chance, &mut cuts),
        )?;
    }
    table(&[("power cut", &kills), ("power cut, disk cache lost", &cuts)])?;
    if kills.is_good() && cuts.is_good() {
        return Ok(());
    }
    let notes = [kills.notes, cuts.notes].concat().join("\n");
    Err(NodeError::Wrong(format!("with --seed {seed}:\n{notes}")))
}

/// Installs cricket on the root disk and turns the machine off.
fn prepare(workshop: &Workshop) -> Result<(), NodeError> {
    let machine = Machine::boot(workshop, &[])?;
    install(machine.inside(), DATA)?;
    // A boot under emulation, beside other work, may be slower than systemd's patience.
    let line = format!(
        "/dev/disk/by-id/virtio-{DISK} {DATA} ext4 nofail,errors=remount-ro,\
         x-systemd.device-timeout=600,x-systemd.mount-timeout=600 0 0"
    );
    let script = format!("echo '{line}' >>/etc/fstab; mkdir -p {DATA}; sync");
    machine.inside().good(SOON, &["sh", "-ec", &script])?;
    machine.power_off()
}

fn disk(workshop: &Workshop, name: &str) -> Result<Disk, NodeError> {
    Ok(Disk {
        name: DISK.into(),
        file: workshop.disk(name, SIZE)?,
        log: None,
    })
}

/// Cuts the power of a running machine and boots it again, `times` times on one disk.
fn kill(
    workshop: &Workshop,
    times: usize,
    chance: &mut Chance,
    row: &mut Row,
) -> Result<(), NodeError> {
    let disk = disk(workshop, "killed")?;
    for number in 0..=times {
        let machine = Machine::boot(workshop, std::slice::from_ref(&disk))?;
        let inside = machine.inside();
        let registry = serve(inside)?;
        if number > 0 {
            row.times += 1;
            check(inside, &format!("kill {number}"), row)?;
        }
        if number == times {
            break;
        }
        let seconds = 2 + chance.below(24) as u64;
        churn(inside, chance, Duration::from_secs(seconds))?;
        // It ends with the machine.
        std::mem::forget(registry);
        machine.cut();
        println!("node: power cut after {seconds} s of churn");
    }
    Ok(())
}

/// Starts the registry that churn and verification pull from.
fn serve(inside: &Channel) -> Result<Running<'_>, NodeError> {
    let mut registry = inside.start(&["/opt/node/node-guest", "serve"])?;
    match registry.line(SOON)? {
        Some(_) => Ok(registry),
        None => Err(NodeError::Wrong(
            registry
                .succeed(SOON)
                .err()
                .map_or_else(String::new, |error| error.to_string()),
        )),
    }
}

/// Starts the churn and watches it for so long; it goes on afterwards.
fn churn(inside: &Channel, chance: &mut Chance, long: Duration) -> Result<(), NodeError> {
    let seed = chance.below(1 << 20).to_string();
    let mut running = inside.start(&["/opt/node/node-guest", "churn", DATA, &seed])?;
    let mut since = None;
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    while since.is_none_or(|since: Instant| since.elapsed() < long) {
        let Some(line) = running.line(SOON)? else {
            let error = running.succeed(SOON).err();
            let text = error.map_or_else(|| "churn ended".into(), |error| error.to_string());
            return Err(NodeError::Wrong(format!("{text}\n{}", journal(inside))));
        };
        since = since.or_else(|| Some(Instant::now()));
        let words: Vec<_> = line.split([' ', ':']).take(2).collect();
        let kind = match words[..] {
            ["pod" | "container" | "not" | "no", second] => format!("{} {second}", words[0]),
            [first, ..] => first.to_owned(),
            [] => continue,
        };
        *counts.entry(kind).or_default() += 1;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    println!("node: {}", counts.join(", "));
    // Dropping it would end it; the power does that.
    std::mem::forget(running);
    Ok(())
}

/// A run on a disk whose writes are noted: the log, and the disk as it was before.
fn record(
    workshop: &Workshop,
    options: &Options,
    chance: &mut Chance,
) -> Result<(std::path::PathBuf, Disk), NodeError> {
    let pristine = disk(workshop, "pristine")?;
    let file = workshop.dir().join("recorded");
    copy(&pristine.file, &file)?;
    let log = workshop.dir().join("writes");
    std::fs::write(&log, b"").map_err(NodeError::io("make the log of writes"))?;
    let recorded = Disk {
        name: DISK.into(),
        file: file.clone(),
        log: Some(log.clone()),
    };
    let machine = Machine::boot(workshop, &[recorded])?;
    let registry = serve(machine.inside())?;
    churn(
        machine.inside(),
        chance,
        Duration::from_secs(options.seconds),
    )?;
    // The log counts what stands before a flush.
    machine.inside().good(SOON, &["sync"])?;
    drop(registry);
    machine.cut();
    // Only its log is of use.
    drop(std::fs::remove_file(&file));
    Ok((log, pristine))
}

/// Has one machine look at the disk as it was after cuts at `times` moments.
fn replay(
    workshop: &Workshop,
    times: usize,
    (log, pristine): (&Path, &Disk),
    (chance, row): (&mut Chance, &mut Row),
) -> Result<(), NodeError> {
    let log = WriteLog::open(log)?;
    println!("node: {} writes and flushes were recorded", log.len());
    let mut moments: Vec<usize> = (0..times).map(|_| 1 + chance.below(log.len())).collect();
    moments.sort_unstable();
    let cut = Disk {
        name: DISK.into(),
        file: workshop.dir().join("cut"),
        log: None,
    };
    copy(&pristine.file, &cut.file)?;
    let machine = Machine::boot(workshop, std::slice::from_ref(&cut))?;
    let inside = machine.inside();
    let shell = |script: &str| inside.good(SOON, &["sh", "-ec", script]);
    let _registry = serve(inside)?;
    let mut replay = log.replay(pristine.file.clone());
    for moment in moments {
        // As after a boot: nothing of the pods and records is there, only the disk.
        shell(&format!(
            "systemctl stop cricket.service; ! mountpoint -q {DATA} || umount {DATA}
             ! mountpoint -q {PAUSES} || umount {PAUSES}; rm -rf /run/containers/storage
             blockdev --flushbufs /dev/disk/by-id/virtio-{DISK}"
        ))?;
        let doubt = replay.cut(moment, &cut.file, || chance.below(2) == 0)?;
        let what = format!("cut at {moment} of {}, {doubt} pieces in doubt", log.len());
        row.times += 1;
        let started = shell(&format!("mount {DATA}; systemctl start cricket.service"));
        if let Err(error) = started {
            row.unusable += 1;
            row.notes
                .push(format!("{what}: {error}\n{}", journal(inside)));
            continue;
        }
        check(inside, &what, row)?;
        shell(&format!("systemctl stop cricket.service; umount {DATA}"))?;
        let fsck = ["e2fsck", "-fn", &format!("/dev/disk/by-id/virtio-{DISK}")];
        inside.good(FSCK, &fsck)?;
    }
    Ok(())
}

/// Verifies what the daemon has made of the disk, and adds it to the row.
fn check(inside: &Channel, what: &str, row: &mut Row) -> Result<(), NodeError> {
    let text = inside.good(VERIFY, &["/opt/node/node-guest", "verify", DATA]);
    let text =
        text.map_err(|error| NodeError::Wrong(format!("{what}: {error}\n{}", journal(inside))))?;
    let found: Value = serde_json::from_str(text.trim())
        .map_err(|error| NodeError::Malformed(format!("{error}: {text}")))?;
    let number = |field: &str| found[field].as_u64().unwrap_or_default();
    let count = |field: &str| found[field].as_array().map_or(0, Vec::len);
    row.images += number("images");
    row.certain += number("certain");
    let bad = ["lost", "damaged", "left", "unusable"].map(count);
    for (sum, count) in [
        &mut row.lost,
        &mut row.damaged,
        &mut row.left,
        &mut row.unusable,
    ]
    .into_iter()
    .zip(bad)
    {
        *sum += count;
    }
    println!("node: {what}: {text}", text = text.trim());
    if bad.iter().any(|count| *count > 0) {
        row.notes
            .push(format!("{what}: {found}\n{}", journal(inside)));
    }
    Ok(())
}

impl Row {
    fn is_good(&self) -> bool {
        [self.lost, self.damaged, self.left, self.unusable] == [0; 4]
    }
}

/// The rows of the table that `make faults` prints (`tests/harness/src/faults.rs`): an image that is
/// not whole, or that durability promised and is not there, is lost; a store that does not do its work
/// any more counts as left behind.
fn table(rows: &[(&str, &Row)]) -> Result<(), NodeError> {
    let directory = std::env::var_os("CRICKET_FAULTS").map(PathBuf::from);
    println!("\n| fault | times tried | lost | left behind |\n|---|---|---|---|");
    for (fault, row) in rows.iter().filter(|(_, row)| row.times > 0) {
        let (lost, left) = (row.lost + row.damaged, row.left + row.unusable);
        let line = format!(
            "| {fault}: {} images verified, {} of them promised | {} | {lost} | {left} |\n",
            row.images, row.certain, row.times
        );
        print!("{line}");
        if let Some(directory) = &directory {
            let write = std::fs::write(directory.join(fault), line);
            write.map_err(NodeError::io("write a row of the table"))?;
        }
    }
    println!();
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), NodeError> {
    let mut command = std::process::Command::new("cp");
    command.args(["--sparse=always", "--reflink=auto", "--"]);
    image::run(command.arg(from).arg(to))
}
