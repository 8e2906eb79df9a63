//! How much memory this process may still take: what the machine has left, its container and its
//! own limits.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Memory that may still be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes.
    pub bytes: u64,
    /// What sets the limit, behind "are available".
    pub by: &'static str,
}

/// The smallest of all limits; none where the system tells none.
pub fn available() -> Option<Available> {
    let proc = Path::new("/proc");
    let of = |bytes: Option<u64>, by| bytes.map(|bytes| Available { bytes, by });
    let limits = [
        of(machine(proc), ""),
        of(container(proc), " under the container's limit"),
        of(address_space(proc), " under the process's limit (ulimit -v)"),
        of(data(proc), " under the process's limit (ulimit -d)"),
    ];
    limits.into_iter().flatten().min_by_key(|limit| limit.bytes)
}

/// What new programs may use, by /proc/meminfo.
fn machine(proc: &Path) -> Option<u64> {
    kib(&read_to_string(proc.join("meminfo")).ok()?, "MemAvailable:")
}

/// The number of KiB behind `name`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    number_behind(text, name)?.checked_mul(1024)
}

/// The number behind `name` at the beginning of a line.
fn number_behind(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// What the soft limit called `name` leaves where the process holds what its status calls `held`.
fn left(proc: &Path, name: &str, held: &str) -> Option<u64> {
    let limit = number_behind(&read_to_string(proc.join("self/limits")).ok()?, name)?;
    Some(limit.saturating_sub(kib(&read_to_string(proc.join("self/status")).ok()?, held)?))
}

fn address_space(proc: &Path) -> Option<u64> {
    left(proc, "Max address space", "VmSize:")
}

fn data(proc: &Path) -> Option<u64> {
    left(proc, "Max data size", "VmData:")
}

/// What the control groups of the process leave, of both versions: the least of its group and all
/// above it.
fn container(proc: &Path) -> Option<u64> {
    let groups = read_to_string(proc.join("self/cgroup")).ok()?;
    let mounts = read_to_string(proc.join("self/mountinfo")).ok()?;
    let left_in = |line: &str| -> Option<u64> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let second = controllers.is_empty();
        if !second && !controllers.split(',').any(|controller| controller == "memory") {
            return None;
        }
        let (mount, root) = mounts.lines().find_map(|line| mounted(line, second))?;
        // A container sees its own group as the root of the mount.
        let below = Path::new(group).strip_prefix(&root).unwrap_or(Path::new(""));
        let folder = mount.join(below.strip_prefix("/").unwrap_or(below));
        let above = folder.ancestors().take_while(|folder| folder.starts_with(&mount));
        above.filter_map(|folder| left_in_group(folder, second)).min()
    };
    groups.lines().filter_map(left_in).min()
}

/// Mount point and root of a mount of control groups that limit memory, of the `second` version or
/// the first.
fn mounted(line: &str, second: bool) -> Option<(PathBuf, PathBuf)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (system, options) = (kind.next()?, kind.nth(1)?);
    let fits = match second {
        true => system == "cgroup2",
        false => system == "cgroup" && options.split(',').any(|option| option == "memory"),
    };
    fits.then(|| (PathBuf::from(mount), PathBuf::from(root)))
}

/// What one group leaves; cached files count as free, for the system gives them up first.
fn left_in_group(folder: &Path, second: bool) -> Option<u64> {
    let (limit, usage, cached) = match second {
        true => ("memory.max", "memory.current", "inactive_file "),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
    };
    let number = |name: &str| read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(limit)?;
    let stat = read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let used = number(usage).unwrap_or(0).saturating_sub(number_behind(&stat, cached).unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose files are below a folder of the test.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(files: &[(&str, &str)]) -> Fake {
            let fake = Fake(tempfile::tempdir().unwrap());
            for (name, text) in files {
                let path = fake.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text.replace("ROOT", fake.path().to_str().unwrap())).unwrap();
            }
            fake
        }

        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    const SECOND: &str = "32 31 0:29 / ROOT/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_least_of_nested_groups_counts_and_cached_files_are_free() {
        let fake = Fake::new(&[
            ("self/cgroup", "0::/batch/job\n"),
            ("self/mountinfo", SECOND),
            ("cgroup/batch/memory.max", "1000\n"),
            ("cgroup/batch/memory.current", "900\n"),
            ("cgroup/batch/memory.stat", "anon 1\ninactive_file 300\n"),
            ("cgroup/batch/job/memory.max", "max\n"),
            ("cgroup/batch/job/memory.current", "100\n"),
        ]);
        assert_eq!(container(fake.path()), Some(400));
        std::fs::write(fake.path().join("cgroup/batch/job/memory.max"), "350\n").unwrap();
        assert_eq!(container(fake.path()), Some(250));
    }

    #[test]
    fn the_first_version_and_a_container_that_sees_its_group_as_root_are_read() {
        let mount = "9 8 0:29 /docker/abc ROOT/memory rw - cgroup cgroup rw,memory\n";
        let fake = Fake::new(&[
            ("self/cgroup", "4:memory:/docker/abc\n3:cpu:/docker/abc\n0::/\n"),
            ("self/mountinfo", mount),
            ("memory/memory.limit_in_bytes", "5000\n"),
            ("memory/memory.usage_in_bytes", "2000\n"),
        ]);
        assert_eq!(container(fake.path()), Some(3000));
    }

    #[test]
    fn limits_of_the_process_are_read_and_none_is_none() {
        let limits =
            |soft: &str| format!("Limit  Soft  Hard  Units\nMax address space  {soft}  unlimited  bytes\n");
        let with = limits("1048576");
        let fake =
            Fake::new(&[("self/limits", &with), ("self/status", "VmSize:\t     512 kB\nVmData: 1 kB\n")]);
        assert_eq!((address_space(fake.path()), data(fake.path())), (Some(512 * 1024), None));
        let without = limits("unlimited");
        assert_eq!(address_space(Fake::new(&[("self/limits", &without)]).path()), None);
        assert_eq!(container(fake.path()), None);
        assert!(available().is_none_or(|limit| limit.bytes > 0));
    }
}
