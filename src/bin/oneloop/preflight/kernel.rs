//! The checks themselves: a function each, from numbers of the kernel to words.

use super::machine::Machine;
use super::{BACKLOG, Check, OTHER_DESCRIPTORS, Status};
use crate::units::bytes;

/// Bytes in a page, in which tcp_mem counts. It is another number on a few machines that
/// are not of the kind that serves many clients.
const PAGE: u64 = 4096;

/// What `of` says, or a warning with why it is not known.
fn known(
    name: &'static str,
    wanted: String,
    of: impl FnOnce(&mut Check) -> Result<(), String>,
) -> Check {
    let (found, numbers) = (String::new(), Vec::new());
    let mut check = Check { name, status: Status::Ok, found, wanted, fix: None, numbers };
    if let Err(error) = of(&mut check) {
        (check.status, check.found) = (Status::Warn, error);
    }
    check
}

impl Check {
    fn found(&mut self, found: String, numbers: &[(&'static str, u64)]) {
        self.found = found;
        self.numbers.extend_from_slice(numbers);
    }

    /// Unless `good`, it is `bad`, and `fix` helps.
    fn expect(&mut self, good: bool, bad: Status, fix: impl FnOnce() -> String) {
        if !good {
            self.status = bad;
            self.fix = Some(fix());
        }
    }
}

fn sysctl(name: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w net.{name}={value}")
}

fn needed(connections: u64) -> u64 {
    connections.saturating_add(OTHER_DESCRIPTORS as u64)
}

/// The soft limit does not matter: it is raised to the hard one.
pub(super) fn descriptors(machine: &Machine, soft: u64, hard: u64, connections: u64) -> Check {
    let need = needed(connections);
    known("descriptors", format!("a hard limit of {need} or more"), |check| {
        check.found(
            format!("soft {soft}, hard {hard}; serve raises soft to hard"),
            &[("soft_descriptors", soft), ("hard_descriptors", hard), ("wanted_descriptors", need)],
        );
        // No process can have more than this, and raising it comes first.
        let most = machine.numbers::<1>("proc/sys/fs/nr_open").unwrap_or([u64::MAX]);
        check.expect(hard >= need, Status::Fail, || {
            let first = match most {
                [most] if most < need => format!("sysctl -w fs.nr_open={need} && "),
                _ => String::new(),
            };
            format!("{first}prlimit --pid $$ --nofile={need}:{need}   # or LimitNOFILE={need}")
        });
        Ok(())
    })
}

pub(super) fn open_files(machine: &Machine, connections: u64) -> Check {
    let need = needed(connections);
    known("open_files", format!("{need} free on the whole machine"), |check| {
        let [used, _, max] = machine.numbers::<3>("proc/sys/fs/file-nr")?;
        let free = max.saturating_sub(used);
        check.found(
            format!("{free} free of fs.file-max {max}"),
            &[("free_files", free), ("wanted_files", need)],
        );
        check.expect(free >= need, Status::Fail, || {
            format!(
                "sysctl -w fs.file-max={}",
                used.saturating_add(need.saturating_mul(2)).max(need * 2)
            )
        });
        Ok(())
    })
}

/// Who calls one address has one port for each connection; who serves needs none.
pub(super) fn ports(machine: &Machine, connections: u64) -> Check {
    const MOST: u64 = 65_535 - 1024 + 1;
    known("ports", format!("{connections}, to call one address so often (bench)"), |check| {
        let [low, high] = machine.numbers::<2>("proc/sys/net/ipv4/ip_local_port_range")?;
        let count = (high + 1).saturating_sub(low);
        check.found(
            format!("{count} from {low} to {high}, for calls to one address"),
            &[("found_ports", count), ("wanted_ports", connections)],
        );
        check.expect(count >= connections, Status::Warn, || match connections <= MOST {
            true => sysctl("ipv4.ip_local_port_range", "\"1024 65535\""),
            false => "oneloop serve -l 127.0.0.1:7000 -l 127.0.0.2:7000   # more addresses".into(),
        });
        Ok(())
    })
}

pub(super) fn port_reuse(machine: &Machine) -> Check {
    known("port_reuse", "1, or 2 for this machine alone".into(), |check| {
        let [value] = machine.numbers::<1>("proc/sys/net/ipv4/tcp_tw_reuse")?;
        let text = match value {
            0 => "a closed connection keeps its port for 60 s: tcp_tw_reuse 0".to_string(),
            _ => format!("ports of closed connections are used again: tcp_tw_reuse {value}"),
        };
        check.found(text, &[("found_tw_reuse", value)]);
        check.expect(value != 0, Status::Warn, || sysctl("ipv4.tcp_tw_reuse", 2));
        Ok(())
    })
}

/// A burst of callers above it waits a second or more, each.
pub(super) fn backlog(machine: &Machine) -> Check {
    known("backlog", format!("somaxconn of {BACKLOG} or more, as serve asks for"), |check| {
        let [max] = machine.numbers::<1>("proc/sys/net/core/somaxconn")?;
        check.found(
            format!("somaxconn {max}: callers that may wait to be accepted"),
            &[("found_callers", max), ("wanted_callers", BACKLOG)],
        );
        check.expect(max >= BACKLOG, Status::Warn, || sysctl("core.somaxconn", BACKLOG));
        Ok(())
    })
}

pub(super) fn half_open(machine: &Machine, connections: u64) -> Check {
    let need = BACKLOG.min(connections);
    known("half_open", format!("tcp_max_syn_backlog of {need}, or tcp_syncookies"), |check| {
        let [max] = machine.numbers::<1>("proc/sys/net/ipv4/tcp_max_syn_backlog")?;
        let cookies = machine.numbers::<1>("proc/sys/net/ipv4/tcp_syncookies").unwrap_or([0]);
        let helped = if cookies == [0] { "" } else { ", and tcp_syncookies helps beyond" };
        check.found(
            format!("tcp_max_syn_backlog {max}{helped}"),
            &[("found_callers", max), ("wanted_callers", need)],
        );
        check.expect(max >= need || cookies != [0], Status::Warn, || {
            sysctl("ipv4.tcp_max_syn_backlog", need)
        });
        Ok(())
    })
}

/// A full table drops what is new, on loopback as well.
pub(super) fn conntrack(machine: &Machine, connections: u64) -> Check {
    const MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
    known("conntrack", format!("room for {connections} connections"), |check| {
        if !machine.has(MAX) {
            check.found("connections are not tracked".into(), &[]);
            return Ok(());
        }
        let [max] = machine.numbers::<1>(MAX)?;
        let [count] = machine.numbers::<1>("proc/sys/net/netfilter/nf_conntrack_count")?;
        let free = max.saturating_sub(count);
        check.found(
            format!("{count} of {max} entries are in use"),
            &[("free_entries", free), ("wanted_entries", connections)],
        );
        check.expect(free >= connections, Status::Fail, || {
            let right = count.saturating_add(connections.saturating_mul(2));
            sysctl("netfilter.nf_conntrack_max", right)
        });
        Ok(())
    })
}

/// Buffers only: idle connections have none. Above the middle number the kernel shrinks
/// them, above the last it drops.
pub(super) fn tcp_memory(machine: &Machine, connections: u64) -> Check {
    let need = connections.saturating_mul(PAGE);
    known("tcp_memory", format!("{}: a page for each connection", bytes(need)), |check| {
        let [_, _, pages] = machine.numbers::<3>("proc/sys/net/ipv4/tcp_mem")?;
        let max = pages.saturating_mul(PAGE);
        check.found(
            format!("{} of buffers for all connections: tcp_mem {pages} pages", bytes(max)),
            &[("found_bytes", max), ("wanted_bytes", need)],
        );
        check.expect(max >= need, Status::Warn, || {
            let third = connections.saturating_mul(4) / 3;
            let values = format!("\"{connections} {third} {}\"", connections.saturating_mul(2));
            sysctl("ipv4.tcp_mem", values)
        });
        Ok(())
    })
}

/// At half of what is free it warns: a load generator on the same machine takes as much.
pub(super) fn memory(machine: &Machine, connections: u64, each: u64) -> Check {
    let need = connections.saturating_mul(each);
    let wanted =
        format!("{} ({each} bytes each), and again for bench on this machine", bytes(need));
    known("memory", wanted, |check| {
        let text = machine.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let free = kib.ok_or("cannot read MemAvailable in /proc/meminfo")?.saturating_mul(1024);
        check.found(
            format!("{} are available", bytes(free)),
            &[("available_bytes", free), ("wanted_bytes", need), ("bytes_each", each)],
        );
        let bad = if need > free { Status::Fail } else { Status::Warn };
        check.expect(need <= free / 2, bad, || fewer(free / 2 / each.max(1)));
        Ok(())
    })
}

pub(super) fn cgroup_memory(machine: &Machine, connections: u64, each: u64) -> Check {
    let need = connections.saturating_mul(each);
    known("cgroup_memory", format!("{} ({each} bytes each)", bytes(need)), |check| {
        let Some((free, max)) = tightest(machine) else {
            check.found("no limit for this process".into(), &[]);
            return Ok(());
        };
        check.found(
            format!("{} of {} are free", bytes(free), bytes(max)),
            &[("available_bytes", free), ("limit_bytes", max), ("wanted_bytes", need)],
        );
        check.expect(need <= free, Status::Fail, || fewer(free / each.max(1)));
        Ok(())
    })
}

fn fewer(connections: u64) -> String {
    format!("oneloop check -c {connections}   # and serve --max-connections {connections}")
}

/// A quarter of RAM, or of a smaller cgroup, in bytes.
pub(super) fn quarter(machine: &Machine) -> usize {
    let ram = machine.text("proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let cgroup = tightest(machine).map(|(_, max)| max);
    let all = [ram, cgroup].into_iter().flatten().min();
    all.and_then(|all| usize::try_from(all / 4).ok()).unwrap_or(usize::MAX)
}

/// Free bytes and the limit, of whichever cgroup of this process leaves the least. A
/// limit of one above holds as well. There may be none, and no such files at all.
fn tightest(machine: &Machine) -> Option<(u64, u64)> {
    let cgroups = machine.text("proc/self/cgroup").ok()?;
    let mut found: Vec<(u64, u64)> = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (folder, limit, used) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max", "memory.current"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            let read = |file| machine.numbers::<1>(&format!("{folder}{path}/{file}"));
            if let Ok([max]) = read(limit) {
                let used = read(used).map_or(0, |[used]| used);
                found.push((max.saturating_sub(used), max));
            }
            match path.rfind('/') {
                Some(at) => path = &path[..at],
                None => break,
            }
        }
    }
    // What is "no limit" in the older files is a number near the end of 63 bits.
    found.into_iter().filter(|(_, max)| *max < 1 << 62).min()
}

pub(super) fn cores(count: u64) -> Check {
    known("cores", "2 or more, if bench runs on this machine".into(), |check| {
        let text = match count {
            1 => "1: serve and bench on this machine share it".to_string(),
            0 => return Err("cannot find out how many there are".into()),
            count => format!("{count}, of which a server uses one"),
        };
        check.found(text, &[("found_cores", count)]);
        if count < 2 {
            check.status = Status::Warn;
        }
        Ok(())
    })
}
