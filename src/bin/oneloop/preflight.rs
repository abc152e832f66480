//! What a machine needs to have so that many connections can be served, or made.
//!
//! ```text
//!  /proc, /sys ──▶ Machine ──▶ a function each ──▶ Check { found, wanted, fix }
//! ```
//!
//! Nothing is changed: files are read, and the addresses are bound and let go. A file that
//! cannot be read is a warning that names it. `oneloop check` prints what comes of it; what
//! is about to serve, or to load a server, can ask before it begins.

use oneloop::services::Echo;
use oneloop::{AnyFraming, Limits, Lines, Server, net};

use crate::address::Address;
use crate::serve::cannot_listen;
use machine::Machine;

mod kernel;
mod machine;

/// What there shall be room for.
pub(crate) struct Wanted<'a> {
    /// Connections at once.
    pub(crate) connections: usize,
    /// Where to listen.
    pub(crate) listen: &'a [Address],
}

/// One thing looked at.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// What there is.
    pub(crate) found: String,
    /// What would be right.
    pub(crate) wanted: String,
    /// The command that makes it so.
    pub(crate) fix: Option<String>,
    /// The same in numbers; the keys have the units.
    pub(crate) numbers: Vec<(&'static str, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    /// It works, but less than is wanted; or nobody knows.
    Warn,
    /// It does not work.
    Fail,
}

/// Callers that `serve` lets wait to be accepted.
const BACKLOG: u64 = 4096;
/// Descriptors that are no connections: standard streams, epoll, wakers, listeners, the
/// reserve.
pub(crate) const OTHER_DESCRIPTORS: usize = 24;
/// What the kernel takes for an idle TCP connection: a socket, its file and its place in
/// the tables. Between 4 and 8 KiB on Linux 5 and 6; the larger, to be safe.
const KERNEL_BYTES: u64 = 8 << 10;

/// As in the library.
const MOST_MEMORY: usize = 256 << 20;

/// Looks at everything, and never fails itself.
pub(crate) fn check(wanted: &Wanted<'_>) -> Vec<Check> {
    let machine = Machine::this();
    let connections = u64::try_from(wanted.connections).unwrap_or(u64::MAX);
    let (soft, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap_or((0, 0));
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64);
    let mut checks = vec![
        kernel::descriptors(&machine, soft, hard, connections),
        kernel::open_files(&machine, connections),
        kernel::ports(&machine, connections),
        kernel::port_reuse(&machine),
        kernel::backlog(&machine),
        kernel::half_open(&machine, connections),
        kernel::conntrack(&machine, connections),
        kernel::tcp_memory(&machine, connections),
        kernel::memory(&machine, connections, bytes_each()),
        kernel::cgroup_memory(&machine, connections, bytes_each()),
        kernel::cores(cores),
    ];
    checks.extend(wanted.listen.iter().map(listen));
    checks
}

/// What waiting input and output may take here: a quarter of the memory of this machine, or
/// of its cgroup, and 256 MiB at most.
pub(crate) fn memory_budget() -> usize {
    kernel::quarter(&Machine::this()).min(MOST_MEMORY)
}

/// What an idle connection takes, with us and in the kernel.
fn bytes_each() -> u64 {
    let ours = net::idle_bytes::<AnyFraming, Echo>();
    KERNEL_BYTES + u64::try_from(ours).unwrap_or(u64::MAX)
}

/// Listens there for a moment, by the same way as `serve`.
fn listen(addr: &Address) -> Check {
    let bound = Server::new().and_then(|mut server| {
        let endpoint = server.add(Lines::default(), Echo, Limits::default())?;
        match addr {
            Address::Tcp(name) => server.listen(endpoint, name.as_str()).map(drop),
            Address::Unix(path) => server.listen_unix(endpoint, path, None),
        }
    });
    let (status, found, fix) = match bound {
        Ok(()) => (Status::Ok, format!("can listen on {addr}"), None),
        Err(error) => {
            let fix = match addr {
                Address::Tcp(name) => {
                    let port = name.rsplit(':').next().unwrap_or_default();
                    format!("ss -ltnp 'sport = :{port}'   # shows who has it")
                }
                Address::Unix(path) => format!("ls -l {}   # shows whose it is", path.display()),
            };
            (Status::Fail, cannot_listen(addr, &error), Some(fix))
        }
    };
    let wanted = format!("{addr} is there and free");
    Check { name: "listen", status, found, wanted, fix, numbers: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_proc_is_a_warning_for_each_file_and_no_panic() {
        let machine = Machine::at("/nonexistent".into());
        let checks = [
            kernel::open_files(&machine, 1),
            kernel::ports(&machine, 1),
            kernel::port_reuse(&machine),
            kernel::backlog(&machine),
            kernel::half_open(&machine, 1),
            kernel::tcp_memory(&machine, 1),
            kernel::memory(&machine, 1, 1),
        ];
        for check in checks {
            assert_eq!(check.status, Status::Warn, "{}", check.name);
            assert!(check.found.contains("cannot read /nonexistent/proc"), "{}", check.found);
        }
        // Not there is how they look where they are not used.
        assert_eq!(kernel::conntrack(&machine, 1).status, Status::Ok);
        assert_eq!(kernel::cgroup_memory(&machine, 1, 1).status, Status::Ok);
    }

    #[test]
    fn what_is_too_little_is_said_with_both_numbers_and_a_command_that_names_the_right_one() {
        let (ok, warn, fail) = (Status::Ok, Status::Warn, Status::Fail);
        let all = u64::MAX;
        #[rustfmt::skip]
        let cases = [
            // file, content, what is made of it, status, words of found, words of fix
            ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999\n", 28_232, ok, "28232", ""),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999\n", 28_233, warn, "28232", "ip_local_port_range=\"1024 65535\""),
            ("proc/sys/net/ipv4/ip_local_port_range", "1024 65535\n", 70_000, warn, "64512", "127.0.0.2"),
            ("proc/sys/net/ipv4/ip_local_port_range", "what is this", 1, warn, "cannot read", ""),
            ("proc/sys/net/core/somaxconn", "4096", all, ok, "4096", ""),
            ("proc/sys/net/core/somaxconn", "128", all, warn, "128", "net.core.somaxconn=4096"),
            ("proc/sys/net/ipv4/tcp_tw_reuse", "2", all, ok, "2", ""),
            ("proc/sys/net/ipv4/tcp_tw_reuse", "0", all, warn, "0", "net.ipv4.tcp_tw_reuse=2"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128", 100, ok, "128", ""),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128", 10_000, warn, "128", "tcp_max_syn_backlog=4096"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "100", 100, ok, "0 of 100", ""),
            ("proc/sys/net/netfilter/nf_conntrack_max", "100", 101, fail, "0 of 100", "nf_conntrack_max=202"),
            ("proc/sys/net/ipv4/tcp_mem", "1 2 100", 100, ok, "400 KiB", ""),
            ("proc/sys/net/ipv4/tcp_mem", "1 2 100", 101, warn, "400 KiB", "tcp_mem=\"101 134 202\""),
            ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  2 kB\n", 10, ok, "2048 bytes", ""),
            ("proc/meminfo", "MemAvailable:  2 kB\n", 11, warn, "2048 bytes", "-c 10"),
            ("proc/meminfo", "MemAvailable:  2 kB\n", 21, fail, "2048 bytes", "-c 10"),
            ("proc/sys/fs/file-nr", "1000\t0\t11024", 10_000, ok, "10024 free", ""),
            ("proc/sys/fs/file-nr", "1000\t0\t11024", 10_001, fail, "10024 free", "fs.file-max=21050"),
            ("proc/self/cgroup", "0::/a\n", 10, ok, "no limit", ""),
        ];
        for (file, content, connections, status, found, fix) in cases {
            let root = std::env::temp_dir().join(format!("oneloop-check-{}", std::process::id()));
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(&path, content).expect("written");
            let machine = Machine::at(root.clone());
            let check = match file.rsplit('/').next().expect("a name") {
                "ip_local_port_range" => kernel::ports(&machine, connections),
                "somaxconn" => kernel::backlog(&machine),
                "tcp_tw_reuse" => kernel::port_reuse(&machine),
                "tcp_max_syn_backlog" => kernel::half_open(&machine, connections),
                "nf_conntrack_max" => {
                    let count = path.with_file_name("nf_conntrack_count");
                    std::fs::write(count, "0").expect("written");
                    kernel::conntrack(&machine, connections)
                }
                "tcp_mem" => kernel::tcp_memory(&machine, connections),
                "meminfo" => kernel::memory(&machine, connections, 100),
                "file-nr" => kernel::open_files(&machine, connections),
                _ => kernel::cgroup_memory(&machine, connections, 100),
            };
            std::fs::remove_dir_all(root).expect("our own folder");
            assert_eq!(check.status, status, "{file} {content}: {}", check.found);
            assert!(check.found.contains(found), "{file} {content}: {}", check.found);
            assert_eq!(check.fix.is_some(), !fix.is_empty(), "{file} {content}");
            let said = check.fix.unwrap_or_default();
            assert!(said.contains(fix), "{file} {content}: {said}");
        }
    }

    #[test]
    fn the_tighter_of_all_limits_of_a_cgroup_and_those_above_it_counts() {
        let root = std::env::temp_dir().join(format!("oneloop-cgroup-{}", std::process::id()));
        let inner = root.join("sys/fs/cgroup/a/b");
        std::fs::create_dir_all(&inner).expect("a folder");
        std::fs::create_dir_all(root.join("proc/self")).expect("a folder");
        std::fs::write(root.join("proc/self/cgroup"), "0::/a/b\n").expect("written");
        std::fs::write(inner.join("memory.max"), "max\n").expect("written");
        std::fs::write(inner.with_file_name("memory.max"), "5000\n").expect("written");
        std::fs::write(inner.with_file_name("memory.current"), "1000\n").expect("written");
        let machine = Machine::at(root.clone());
        let [little, much] = [40, 41].map(|count| kernel::cgroup_memory(&machine, count, 100));
        std::fs::remove_dir_all(root).expect("our own folder");
        assert_eq!((little.status, much.status), (Status::Ok, Status::Fail), "{}", much.found);
        assert!(much.found.contains("4000 bytes of 5000 bytes"), "{}", much.found);
    }

    #[test]
    fn the_memory_budget_is_a_quarter_of_ram_or_of_a_smaller_cgroup() {
        let root = std::env::temp_dir().join(format!("oneloop-quarter-{}", std::process::id()));
        let quarter = || kernel::quarter(&Machine::at(root.clone()));
        assert_eq!(quarter(), usize::MAX, "nobody knows");
        std::fs::create_dir_all(root.join("proc/self")).expect("a folder");
        std::fs::write(root.join("proc/meminfo"), "MemTotal:  800 kB\n").expect("written");
        assert_eq!(quarter(), 200 << 10);
        std::fs::create_dir_all(root.join("sys/fs/cgroup/a")).expect("a folder");
        std::fs::write(root.join("proc/self/cgroup"), "0::/a\n").expect("written");
        std::fs::write(root.join("sys/fs/cgroup/a/memory.max"), "4096\n").expect("written");
        assert_eq!(quarter(), 1024);
        std::fs::remove_dir_all(root).expect("our own folder");
    }

    #[test]
    fn a_hard_limit_that_is_too_low_fails_and_a_soft_one_is_raised() {
        let root = std::env::temp_dir().join(format!("oneloop-nofile-{}", std::process::id()));
        std::fs::create_dir_all(root.join("proc/sys/fs")).expect("a folder");
        std::fs::write(root.join("proc/sys/fs/nr_open"), "20000\n").expect("written");
        let machine = Machine::at(root.clone());
        let check = |hard, connections| kernel::descriptors(&machine, 1024, hard, connections);
        assert_eq!(check(10_024, 10_000).status, Status::Ok);
        for (connections, fix) in [
            (10_000, "prlimit --pid $$ --nofile=10024:10024"),
            (20_000, "sysctl -w fs.nr_open=20024 && prlimit"),
        ] {
            let low = check(10_023, connections);
            assert_eq!(low.status, Status::Fail);
            let said = low.fix.expect("a command");
            assert!(said.starts_with(fix), "{said}");
        }
        std::fs::remove_dir_all(root).expect("our own folder");
    }

    #[test]
    fn an_address_that_is_taken_fails_and_one_that_was_looked_at_is_free_again() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = Address::Tcp(taken.local_addr().expect("bound").to_string());
        assert_eq!(listen(&addr).status, Status::Fail);
        drop(taken);
        assert_eq!([listen(&addr).status, listen(&addr).status], [Status::Ok; 2]);
    }
}
