//! How many files the process may open, and who listens on a port.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one, and returns what it is then.
pub(crate) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let hard = maximum.unwrap_or(u64::MAX);
    let soft = current.unwrap_or(u64::MAX);
    if soft < hard && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return hard;
    }
    soft
}

/// The process that listens on `address`, as far as this system and this user's rights tell.
pub(crate) fn owner_of(address: SocketAddr) -> Option<String> {
    let inode = listening_inode(address)?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()));
        if holds {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim()));
        }
    }
    None
}

/// The socket that listens on `address`, or on its port of all addresses.
fn listening_inode(address: SocketAddr) -> Option<String> {
    const LISTENING: &str = "0A";
    let port = format!(":{:04X}", address.port());
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?;
            let matches = local.ends_with(&port) && is_address(local, address.ip());
            (matches && state == LISTENING).then(|| inode.to_owned())
        })
    })
}

/// Whether `local`, as the kernel writes it (hexadecimal words in the machine's byte order), is `address` or all of them.
fn is_address(local: &str, address: IpAddr) -> bool {
    let hex = local.split(':').next().unwrap_or_default();
    let IpAddr::V4(v4) = address else { return true };
    let is_any = hex.bytes().all(|byte| byte == b'0');
    is_any || hex.ends_with(&format!("{:08X}", u32::from_ne_bytes(v4.octets())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = owner_of(listener.local_addr().unwrap());
        if cfg!(target_os = "linux") {
            assert!(owner.unwrap().contains(&std::process::id().to_string()));
        }
    }
}
