//! `userns`: pods with a user namespace, by crun and by runc, on the machine's kernel and disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use cricket_harness::cri::{IdMapping, Mount, NamespaceMode, NamespaceOption, UserNamespace};
use cricket_harness::{Client, requests};

use crate::pods::{self, IMAGE, LOGS, said};
use crate::units::systemctl;
use crate::{Outcome, daemon, scopes, together};

const UIDS: IdMapping = IdMapping {
    host_id: 300_000,
    container_id: 0,
    length: 65_536,
};
const GIDS: IdMapping = IdMapping {
    host_id: 400_000,
    ..UIDS
};
/// As the kubelet has them: only root gets to what is below.
const KUBELETS: &str = "/var/lib/kubelet-test";

/// Runs all of it; each part makes its own pod and removes it.
pub async fn run() -> Outcome {
    let mut cri = daemon::connect().await?;
    pods::image(&cri).await?;
    let mut outcomes = Vec::new();
    for handler in ["crun", "runc"] {
        for pid in [NamespaceMode::Container, NamespaceMode::Pod] {
            let outcome = with(&mut cri, handler, pid).await;
            outcomes.push((format!("{handler}, {pid:?}"), outcome));
        }
    }
    together(outcomes)
}

fn map(options: &mut NamespaceOption, pid: NamespaceMode) {
    options.pid = pid.into();
    options.userns_options = Some(UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: vec![UIDS],
        gids: vec![GIDS],
    });
}

/// A volume on the disk and one in memory, with a file of root's and one of a user's in each.
fn volumes(name: &str) -> Outcome<Vec<Mount>> {
    let mut mounts = Vec::new();
    for (above, to) in [(KUBELETS, "/disk"), ("/run/kubelet-test", "/memory")] {
        let host = Path::new(above).join(name);
        let made = || {
            fs::create_dir_all(&host)?;
            fs::set_permissions(above, Permissions::from_mode(0o700))?;
            fs::write(host.join("root"), "")?;
            fs::write(host.join("user"), "")?;
            chown(host.join("user"), Some(1000), Some(2000))
        };
        made().map_err(|error| format!("{}: {error}", host.display()))?;
        mounts.push(Mount {
            uid_mappings: vec![UIDS],
            gid_mappings: vec![GIDS],
            ..requests::mount(&host, to, false)
        });
    }
    Ok(mounts)
}

async fn with(cri: &mut Client, handler: &str, pid: NamespaceMode) -> Outcome {
    let name = format!("userns-{handler}-{}", i32::from(pid));
    let mut config = requests::pod(&name, &scopes::parent(&name), Path::new(LOGS));
    map(requests::pod_namespaces(&mut config), pid);
    let mut container = requests::container("main", IMAGE, &["sleep", "100000"]);
    let security = requests::security(&mut container);
    map(security.namespace_options.get_or_insert_default(), pid);
    container.mounts = volumes(&name)?;
    let pod = cri.run_pod_with(&config, handler).await;
    let pod = pod.map_err(said("RunPodSandbox"))?;
    let done = async {
        let id = cri.create(&pod, &container, &config).await;
        let id = id.map_err(said("CreateContainer"))?;
        cri.start(&id).await.map_err(said("StartContainer"))?;
        owners(cri, &id, &name).await?;
        systemctl(&["restart", "cricket.service"])?;
        *cri = daemon::connect().await?;
        says(cri, &id, "cat /memory/made", "x").await
    };
    let done = done.await;
    cri.stop_pod(&pod).await.map_err(said("StopPodSandbox"))?;
    cri.remove_pod(&pod)
        .await
        .map_err(said("RemovePodSandbox"))?;
    let left = daemon::left_in_kernel(std::slice::from_ref(&pod));
    if !left.is_empty() {
        return Err(format!("left behind: {}", left.join(" ")));
    }
    done?;
    println!("{handler}, PID namespace of the {pid:?}: both sides see the right owners");
    Ok(())
}

async fn says(cri: &Client, id: &str, script: &str, wanted: &str) -> Outcome {
    let found = pods::exec(cri, id, script).await?;
    match found.trim() == wanted {
        true => Ok(()),
        false => Err(format!("{script}: {found:?} instead of {wanted:?}")),
    }
}

/// Who owns what, from inside and from outside.
async fn owners(cri: &Client, id: &str, name: &str) -> Outcome {
    let own = "0 300000 65536 0 400000 65536";
    for (script, wanted) in [
        ("echo $(cat /proc/self/uid_map /proc/self/gid_map)", own),
        ("cat /proc/self/attr/current", "crio-default (enforce)"),
        (
            "stat -c %u:%g / /bin/busybox /etc/resolv.conf /disk/root /disk/user /memory/root /memory/user",
            "0:0\n0:0\n0:0\n0:0\n1000:2000\n0:0\n1000:2000",
        ),
        (
            "for to in /disk /memory /; do echo x >$to/made && chown 7:8 $to/made; done; cat /made",
            "x",
        ),
    ] {
        says(cri, id, script, wanted).await?;
    }
    // Volumes keep ids on the node as they are inside; the root is the pod's own.
    let of = |path: &Path| {
        let facts = fs::symlink_metadata(path);
        let facts = facts.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>((facts.uid(), facts.gid()))
    };
    for above in [KUBELETS, "/run/kubelet-test"] {
        let made = Path::new(above).join(name).join("made");
        if of(&made)? != (7, 8) {
            return Err(format!("{} is {:?}'s", made.display(), of(&made)?));
        }
    }
    let pid = pids(id)?;
    let root = Path::new("/proc").join(&pid).join("root");
    for (file, owner) in [
        ("bin/busybox", (300_000, 400_000)),
        ("made", (300_007, 400_008)),
    ] {
        let found = of(&root.join(file))?;
        if found != owner {
            return Err(format!(
                "from outside {file} is {found:?}'s, not {owner:?}'s"
            ));
        }
    }
    of(&Path::new("/proc").join(&pid)).and_then(|owner| match owner {
        (300_000, 400_000) => Ok(()),
        other => Err(format!("process {pid} is {other:?}'s")),
    })
}

/// The first process of a container.
fn pids(id: &str) -> Outcome<String> {
    let pids = crate::units::processes(&format!("crio-{id}.scope"))?;
    pids.into_iter().next().ok_or("no process".into())
}
