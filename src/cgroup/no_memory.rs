//! Why a node cannot limit or account memory, and how that is mended: some ARM boards' firmware
//! switches the controller off.

use std::fs;

use super::{Cgroups, Version};

/// The controllers that the kernel has, and which are on (cgroups(7)).
const CONTROLLERS: &str = "/proc/cgroups";
/// What the kernel was started with.
const COMMAND_LINE: &str = "/proc/cmdline";

const ENABLE: &str = "add `cgroup_enable=memory` to the kernel's command line (on a Raspberry Pi \
     /boot/firmware/cmdline.txt, elsewhere GRUB_CMDLINE_LINUX in /etc/default/grub and \
     `update-grub`) and reboot";

impl Cgroups {
    /// What is wrong with the memory controller, with the remedy; `None` when it is there.
    pub fn no_memory(&self) -> Option<String> {
        if self.controllers.memory {
            return None;
        }
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Some(why(self.version, &read(CONTROLLERS), &read(COMMAND_LINE)))
    }
}

fn why(version: Version, controllers: &str, command_line: &str) -> String {
    let switched_off = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("cgroup_disable="))
        .any(|names| names.split(',').any(|name| name == "memory"));
    // Columns: name, hierarchy, cgroups, enabled.
    let enabled = controllers.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next()? == "memory").then(|| fields.nth(2) == Some("1"))
    });
    let (cause, remedy) = match (enabled, version) {
        _ if switched_off && enabled != Some(true) => (
            "the kernel's command line has `cgroup_disable=memory`",
            format!("remove that and {ENABLE}"),
        ),
        (Some(false), _) => ("the kernel has it switched off", ENABLE.to_owned()),
        (None, Version::V1) => (
            "the kernel was built without it",
            "use a kernel with CONFIG_MEMCG".to_owned(),
        ),
        (Some(true), Version::V1) => (
            "the kernel has it and it is not mounted",
            "mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory".to_owned(),
        ),
        // The file lists controllers of cgroup v1 alone since Linux 6.15: a missing line says nothing.
        (_, Version::V2) => (
            "`memory` is not in /sys/fs/cgroup/cgroup.controllers",
            format!("take it off a cgroup v1 mount if it is on one, or {ENABLE}"),
        ),
    };
    format!(
        "memory of containers can be neither limited nor accounted, and a kubelet will not start: \
         the memory cgroup is missing because {cause}; {remedy}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_memory_cgroup_is_told_with_its_cause_and_remedy() {
        let line = |enabled| {
            format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t{enabled}\n")
        };
        let (on, off, none) = (line(1), line(0), "cpu\t1\t2\t1\n".to_owned());
        let pi = "console=tty1 cgroup_disable=memory root=/dev/mmcblk0p2";
        let others = "quiet cgroup_disable=pressure,hugetlb";
        for (version, controllers, command_line, cause, remedy) in [
            (
                Version::V1,
                &off,
                pi,
                "cgroup_disable=memory",
                "remove that and add",
            ),
            (
                Version::V2,
                &none,
                pi,
                "cgroup_disable=memory",
                "remove that and add",
            ),
            (Version::V2, &off, "", "switched off", "cmdline.txt"),
            (Version::V1, &off, others, "switched off", "update-grub"),
            (Version::V1, &none, "", "built without it", "CONFIG_MEMCG"),
            (
                Version::V1,
                &on,
                pi,
                "not mounted",
                "mount -t cgroup -o memory",
            ),
            (
                Version::V2,
                &on,
                "",
                "cgroup.controllers",
                "cgroup v1 mount",
            ),
            (
                Version::V2,
                &none,
                others,
                "cgroup.controllers",
                "cgroup_enable=memory",
            ),
        ] {
            let told = why(version, controllers, command_line);
            assert!(told.contains(cause) && told.contains(remedy), "{told}");
        }
    }

    #[test]
    fn a_node_with_a_memory_cgroup_has_nothing_to_be_told() {
        let mut cgroups = Cgroups::detect(super::super::Manager::Cgroupfs).unwrap();
        cgroups.controllers.memory = true;
        assert_eq!(cgroups.no_memory(), None);
        cgroups.controllers.memory = false;
        assert!(cgroups.no_memory().unwrap().contains("memory"));
    }
}
