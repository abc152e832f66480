//! Listening at a path: the life of a Unix socket's file.
//!
//! ```text
//!  bind ──▶ the file exists?  no ─────────────────────────▶ bound
//!             │ a server answers there, or it is no socket ─▶ AddrInUse
//!             └ nobody answers: left by one that was killed ─▶ removed, bound
//!  drop ──▶ the file is removed, if it is still ours
//! ```

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::sys::{KernelBuffers, ListenOptions};

/// A listening Unix socket and its file.
#[derive(Debug)]
pub(crate) struct UnixListener {
    socket: Socket,
    /// The file that we made, and its device and inode: another may have taken its name.
    file: Option<(PathBuf, (u64, u64))>,
    buffers: KernelBuffers,
    /// Callers so far: they have no address, so they get a number.
    callers: u32,
}

impl UnixListener {
    /// Listens at `path`, with the permissions `mode` or what the umask leaves.
    pub(crate) fn bind(
        path: &Path,
        mode: Option<u32>,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        if options.reuse_port {
            let text = "a Unix socket has one listener: reuse_port is for TCP";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let addr = address(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.bind(&addr) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path, &addr)?;
                socket.bind(&addr)?;
            }
            bound => bound?,
        }
        // From here on the file is ours, and goes when this does.
        let file = inode(&fs::symlink_metadata(path)?);
        let file = Some((path.to_path_buf(), file));
        let listener = Self { socket, file, buffers: options.buffers, callers: 0 };
        if let Some(mode) = mode {
            // Between bind and listen nobody can connect, so no one slips in before.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        listener.socket.listen(options.backlog)?;
        Ok(listener)
    }

    /// Goes on with one that another opened, and whose file is another's to remove.
    pub(crate) fn adopt(
        listener: std::os::unix::net::UnixListener,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        let socket = Socket::from(listener);
        socket.set_nonblocking(true)?;
        socket.listen(options.backlog)?;
        Ok(Self { socket, file: None, buffers: options.buffers, callers: 0 })
    }

    /// The same listener for another process, whose file it is from now on.
    pub(crate) fn hand_over(&mut self) -> io::Result<OwnedFd> {
        let socket = self.socket.try_clone()?;
        self.file = None;
        Ok(socket.into())
    }

    /// Takes the next caller, and its number.
    pub(crate) fn accept(&mut self) -> io::Result<(TcpStream, u32)> {
        let (socket, _) = self.socket.accept()?;
        socket.set_nonblocking(true)?;
        // Unlike TCP's, an accepted Unix socket inherits nothing.
        self.buffers.set(&socket)?;
        self.callers = self.callers.wrapping_add(1);
        // A connected socket is a descriptor that recv, send and shutdown work on,
        // whatever its family. As one type it costs the loop no branch and no byte.
        Ok((socket.into(), self.callers))
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        let Some((path, file)) = &self.file else { return };
        if fs::symlink_metadata(path).is_ok_and(|found| inode(&found) == *file) {
            // What cannot be removed is stale, and the next server's to remove.
            let _ = fs::remove_file(path);
        }
    }
}

/// The address of `path`, or by how much it is too long to be one.
fn address(path: &Path) -> io::Result<SockAddr> {
    SockAddr::unix(path).map_err(|_| {
        // 108 bytes on Linux, 104 elsewhere, a zero byte at the end included.
        let most = if cfg!(target_os = "linux") { 107 } else { 103 };
        let text = format!(
            "a path of {} bytes; the name of a socket has 1 to {most} and no zero byte",
            path.as_os_str().len()
        );
        io::Error::new(ErrorKind::InvalidInput, text)
    })
}

/// Removes the socket file of a server that is gone.
fn remove_stale(path: &Path, addr: &SockAddr) -> io::Result<()> {
    let in_use = |text| Err(io::Error::new(ErrorKind::AddrInUse, text));
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return in_use("a file that is no socket has this name");
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server whose backlog is full would have us wait: EAGAIN says that it lives.
    probe.set_nonblocking(true)?;
    match probe.connect(addr) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
        _ => return in_use("a server answers there"),
    }
    // Another server may have been faster to find it stale, and be at home by now.
    if inode(&fs::symlink_metadata(path)?) != inode(&found) {
        return in_use("another server is just starting there");
    }
    fs::remove_file(path)
}

fn inode(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
