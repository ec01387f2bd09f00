//! The installed daemon: its socket, its store on the disk, what it still has to clear up there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cricket_harness::{Client, leaks};

use crate::Outcome;

const SOCKET: &str = "/var/run/crio/crio.sock";
/// Deleting happens in the background, slowly under emulation; what has not become less for so long
/// stays.
const STAYS: Duration = Duration::from_secs(40);

/// A connection to its socket.
pub async fn connect() -> Outcome<Client> {
    let client = Client::connect(Path::new(SOCKET)).await;
    client.map_err(|error| format!("{SOCKET}: {error}"))
}

/// cricket's own directory below what the test has configured as root.
pub fn store(data: &str) -> PathBuf {
    Path::new(data).join("containers/cricket")
}

/// What is there that must not be, when no pod is: the files below `dirs`, and the attachments and
/// addresses of pods. Waits for what is being deleted.
pub async fn left(data: &str, dirs: &[&str]) -> Vec<String> {
    let (mut least, mut since) = (usize::MAX, Instant::now());
    loop {
        let mut found: Vec<PathBuf> = dirs
            .iter()
            .flat_map(|dir| leaks::files(&store(data).join(dir)))
            .collect();
        found.extend(leaks::files(&Path::new(data).join("cni/results")));
        let address = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.parse::<std::net::IpAddr>().is_ok()
        };
        let leases = leaks::files(&Path::new(data).join("leases"));
        found.extend(leases.into_iter().filter(address));
        if found.len() < least {
            (least, since) = (found.len(), Instant::now());
        }
        if found.is_empty() || since.elapsed() > STAYS {
            return found
                .iter()
                .map(|path| path.display().to_string())
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Processes, mounts and cgroups that carry one of the ids.
pub fn left_in_kernel(ids: &[String]) -> Vec<String> {
    let processes = leaks::processes_with(ids).into_iter();
    let cgroups = leaks::cgroups_with(ids).into_iter();
    let named = |at: &String| ids.iter().any(|id| at.contains(id.as_str()));
    let mounts = leaks::mounts().into_iter().filter(named);
    // The command line that told us the ids has them too.
    let foreign = processes.filter(|(_, facts)| !facts.contains("node-guest"));
    foreign
        .map(|(pid, facts)| format!("process {pid} {facts}"))
        .chain(cgroups.map(|path| format!("cgroup {}", path.display())))
        .chain(mounts.map(|at| format!("mount {at}")))
        .collect()
}
