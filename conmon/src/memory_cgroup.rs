//! Where the kernel counts the out-of-memory kills of a container.
//!
//! The file is opened while the container is alive and read after its end, so that nobody has to
//! be quicker than the removal of its cgroup. Only the usual mount points are known: reading
//! mountinfo takes milliseconds on a node with a hundred pods.

/// The longest path that is built, in bytes, its NUL included.
pub const MAX_PATH: usize = 4096;

/// The version of the hierarchy that has the memory controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// A hierarchy of its own.
    V1,
    /// The unified one.
    V2,
}

/// Writes the path of the file with the counter, NUL-terminated, for a process whose
/// `/proc/<pid>/cgroup` is given, and returns its length with the NUL. None if the text does not
/// say or the path is too long.
pub fn counter_path(
    proc_cgroup: &[u8],
    hierarchy: Hierarchy,
    buffer: &mut [u8; MAX_PATH],
) -> Option<usize> {
    let (mount, file, cgroup) = match hierarchy {
        Hierarchy::V1 => {
            let cgroup = find(proc_cgroup, |controllers| {
                controllers
                    .split(|byte| *byte == b',')
                    .any(|name| name == b"memory")
            })?;
            ("/sys/fs/cgroup/memory", "/memory.oom_control\0", cgroup)
        }
        Hierarchy::V2 => (
            "/sys/fs/cgroup",
            "/memory.events\0",
            find(proc_cgroup, <[u8]>::is_empty)?,
        ),
    };
    let mut length = 0;
    for part in [mount.as_bytes(), cgroup, file.as_bytes()] {
        buffer
            .get_mut(length..length + part.len())?
            .copy_from_slice(part);
        length += part.len();
    }
    Some(length)
}

/// The cgroup of the first line `hierarchy:controllers:cgroup` whose controllers are wanted.
fn find(proc_cgroup: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
    proc_cgroup.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (_, controllers, cgroup) = (fields.next()?, fields.next()?, fields.next()?);
        (wanted(controllers) && cgroup.starts_with(b"/") && cgroup != b"/").then_some(cgroup)
    })
}

/// Whether the counter file's text says that a process was killed.
pub fn has_oom_kill(text: &[u8]) -> bool {
    has_counted(text, b"oom_kill ")
}

/// Whether it says that the kernel found no more memory within the limit, and was about to kill.
pub fn has_reached_limit(text: &[u8]) -> bool {
    has_counted(text, b"oom ")
}

fn has_counted(text: &[u8], name: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| {
        line.strip_prefix(name)
            .is_some_and(|count| count.iter().any(|byte| *byte != b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn path(text: &str, hierarchy: Hierarchy) -> Option<String> {
        let mut buffer = [0; MAX_PATH];
        let length = counter_path(text.as_bytes(), hierarchy, &mut buffer)?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn the_counter_is_found_in_each_kind_of_hierarchy() {
        let hybrid = "9:name=systemd:/\n4:cpu,memory:/kubepods/pod1/crio-1\n0::/\n";
        assert_eq!(
            path(hybrid, Hierarchy::V1).unwrap(),
            "/sys/fs/cgroup/memory/kubepods/pod1/crio-1/memory.oom_control\0"
        );
        assert_eq!(path(hybrid, Hierarchy::V2), None);
        let unified = "0::/kubepods.slice/a:b/crio-1.scope\n";
        assert_eq!(
            path(unified, Hierarchy::V2).unwrap(),
            "/sys/fs/cgroup/kubepods.slice/a:b/crio-1.scope/memory.events\0"
        );
        assert_eq!(path(unified, Hierarchy::V1), None);
    }

    #[test]
    fn no_path_comes_of_text_that_does_not_say() {
        for text in [
            "",
            "garbage",
            "4:memory",
            "4:memory:",
            "4:memory:relative",
            "4:memory:/",
        ] {
            assert_eq!(path(text, Hierarchy::V1), None, "{text}");
        }
        let long = format!("4:memory:/{}", "x".repeat(MAX_PATH));
        assert_eq!(path(&long, Hierarchy::V1), None);
    }

    #[test]
    fn only_a_counted_kill_is_a_kill() {
        assert!(has_oom_kill(
            b"low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"
        ));
        assert!(has_oom_kill(
            b"oom_kill_disable 0\nunder_oom 0\noom_kill 10\n"
        ));
        assert!(!has_oom_kill(
            b"oom_kill_disable 1\nunder_oom 1\noom_kill 0\n"
        ));
        assert!(!has_oom_kill(
            b"max 9\noom 7\noom_kill 0\noom_group_kill 1\n"
        ));
        assert!(!has_oom_kill(b""));
        assert!(has_reached_limit(b"max 9\noom 7\noom_kill 0\n"));
        assert!(!has_reached_limit(b"max 9\noom 0\noom_kill 1\n"));
    }
}
