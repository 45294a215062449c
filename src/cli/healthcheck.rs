//! `strayd healthcheck`: asks the daemon of this configuration how it is, for supervisors that only know exit codes.
//!
//! It never asks a broker, and needs neither a shell nor curl in the image.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::ConfigOptions;

/// An answer is a line, a small JSON object, or a page of metrics.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Options of `strayd healthcheck`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    /// Asks whether records are scored (/readyz) instead of whether the daemon makes progress (/healthz)
    #[arg(long)]
    ready: bool,
    /// How long an answer may take
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Asks, and prints the answer.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let address = reachable(options.config.load_for_file()?.admin.listen);
    let page = if options.ready { "/readyz" } else { "/healthz" };
    let (status, body) =
        get(address, page, options.timeout).with_context(|| format!("http://{address}{page} doesn't answer"))?;
    if status != 200 {
        bail!("http://{address}{page} answers {status}: {}", body.trim());
    }
    println!("{}", body.trim());
    Ok(())
}

/// Where a server that listens on `address` is reached from its own machine.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Gets a page: its status and its body.
///
/// Errors: nothing answers in time, or not in HTTP.
pub fn get(address: SocketAddr, page: &str, timeout: Duration) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // HTTP/1.0: the answer ends with the connection.
    write!(stream, "GET {page} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer is not HTTP")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_all_interfaces_is_asked_on_loopback() {
        let asked = |listen: &str| reachable(listen.parse().expect("an address")).to_string();
        assert_eq!(asked("0.0.0.0:8790"), "127.0.0.1:8790");
        assert_eq!(asked("[::]:8790"), "[::1]:8790");
        assert_eq!(asked("10.1.2.3:8790"), "10.1.2.3:8790");
    }
}
