//! Turns `127.0.0.1:PORT`, `[::1]:PORT`, `localhost:PORT` or `unix:PATH` into a listening socket that only this machine reaches.
//! It does not tell local users apart: a Unix socket (0600) does, loopback does not.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use crate::CustomerError;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket, made with mode 0600.
    Unix(PathBuf),
}

/// Where it listens, as [`Listen`] but with the port that was chosen.
pub type ListenAddress = Listen;

impl FromStr for Listen {
    type Err = CustomerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:").filter(|p| !p.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let numeric = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
        let address: SocketAddr = numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
            CustomerError::usage("ADDRESS_INVALID", "the address to listen on is not IP:PORT or unix:PATH")
        })?;
        let listen = Self::Tcp(address);
        listen.on_loopback()?;
        Ok(listen)
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// # Errors
    /// `PROXY_NOT_LOOPBACK`.
    pub(super) fn on_loopback(&self) -> Result<(), CustomerError> {
        match self {
            Self::Tcp(address) if !loopback(address.ip()) => {
                Err(CustomerError::usage("PROXY_NOT_LOOPBACK", "the proxy would listen where other machines reach it"))
            }
            _ => Ok(()),
        }
    }
}

fn loopback(ip: IpAddr) -> bool {
    // No mapped IPv4: a socket on ::ffff:127.0.0.1 is a needless riddle.
    ip.is_loopback()
}

pub(super) struct Listener {
    socket: Socket,
    address: ListenAddress,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.address {
            let _gone = fs::remove_file(path);
        }
    }
}

impl Listener {
    pub async fn bind(listen: &Listen) -> Result<Self, CustomerError> {
        match listen {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await.map_err(|e| listen_error(&e))?;
                let address = Listen::Tcp(socket.local_addr().map_err(|e| listen_error(&e))?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Listen::Unix(path) => {
                let socket = bind_unix(path).await.map_err(|e| listen_error(&e))?;
                Ok(Self { socket: Socket::Unix(socket), address: listen.clone() })
            }
        }
    }

    pub const fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The next client. An error of one accept (too many files, a client gone) is waited out.
    pub async fn accept(&self) -> LocalStream {
        loop {
            let accepted = match &self.socket {
                Socket::Tcp(socket) => socket.accept().await.map(|(s, _)| {
                    let _slower_at_worst = s.set_nodelay(true);
                    LocalStream::Tcp(s)
                }),
                Socket::Unix(socket) => socket.accept().await.map(|(s, _)| LocalStream::Unix(s)),
            };
            match accepted {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// Binds beside the final name, closes the socket to other users, then renames: it is never open to them, not for a moment.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Ok(there) = fs::symlink_metadata(path) {
        let alive = there.file_type().is_socket() && UnixStream::connect(path).await.is_ok();
        if alive || !there.file_type().is_socket() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let socket = UnixListener::bind(&beside)?;
    let moved =
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = moved {
        let _gone = fs::remove_file(&beside);
        return Err(error);
    }
    Ok(socket)
}

fn listen_error(error: &io::Error) -> CustomerError {
    if error.kind() == io::ErrorKind::AddrInUse {
        CustomerError::local("PORT_IN_USE", "another program listens there", error)
    } else {
        CustomerError::local("LISTEN_FAILED", "the proxy cannot listen there", error)
    }
}

/// A local client's connection.
pub(super) enum LocalStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for LocalStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_reach_the_proxy() {
        for good in ["127.0.0.1:0", "127.0.0.9:1", "[::1]:8000", "localhost:8000", "unix:/tmp/x"] {
            assert!(good.parse::<Listen>().is_ok(), "{good}");
        }
        for (bad, code) in [
            ("0.0.0.0:8000", "PROXY_NOT_LOOPBACK"),
            ("[::]:8000", "PROXY_NOT_LOOPBACK"),
            ("192.0.2.1:8000", "PROXY_NOT_LOOPBACK"),
            ("[::ffff:127.0.0.1]:8000", "PROXY_NOT_LOOPBACK"),
            ("example:8000", "ADDRESS_INVALID"),
            ("8000", "ADDRESS_INVALID"),
            ("unix:", "ADDRESS_INVALID"),
        ] {
            assert_eq!(bad.parse::<Listen>().unwrap_err().code(), code, "{bad}");
        }
    }
}
