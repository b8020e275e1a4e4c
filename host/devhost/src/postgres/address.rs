//! Which addresses of PostgreSQL a component may have.

use std::net::Ipv6Addr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::allowed_hosts::AllowedHosts;

/// The scheme in `allowed_outbound_hosts`, however the address is written.
const SCHEME: &str = "postgres";

/// PostgreSQL's own port, when the address has none.
const DEFAULT_PORT: u16 = 5432;

/// Checks that every host of the address is among the `allowed` ones.
///
/// # Errors
/// One is not, or the address asks for what devhost does not do; the text is for the guest.
pub fn check(config: &Config, allowed: &AllowedHosts) -> Result<(), String> {
    if config.get_ssl_mode() == SslMode::Require {
        return Err(
            "devhost speaks to PostgreSQL without TLS, so `sslmode=require` is not possible"
                .to_owned(),
        );
    }
    for (index, host) in config.get_hosts().iter().enumerate() {
        match host {
            Host::Tcp(name) => check_one(name, port(config, index), allowed)?,
            #[cfg(unix)]
            Host::Unix(_) => return Err("Unix sockets are not supported".to_owned()),
        }
    }
    // Where there are such, it is they that are called, whatever the names are.
    for (index, address) in config.get_hostaddrs().iter().enumerate() {
        check_one(&address.to_string(), port(config, index), allowed)?;
    }
    Ok(())
}

/// One port is for all hosts, several are one for each.
fn port(config: &Config, index: usize) -> u16 {
    let ports = config.get_ports();
    *ports.get(index).or(ports.first()).unwrap_or(&DEFAULT_PORT)
}

fn check_one(host: &str, port: u16, allowed: &AllowedHosts) -> Result<(), String> {
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    };
    if allowed.allows(SCHEME, &host, Some(port)) {
        return Ok(());
    }
    Err(format!(
        "address {SCHEME}://{host}:{port} is not permitted by its allowed_outbound_hosts"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(address: &str, patterns: &[&str]) -> Result<(), String> {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        let allowed = AllowedHosts::parse(&patterns).unwrap();
        check(&address.parse().unwrap(), &allowed)
    }

    #[test]
    fn every_host_has_to_be_allowed() {
        let one = ["postgres://db.example"];
        assert_eq!(checked("postgres://u:p@db.example/d", &one), Ok(()));
        assert_eq!(checked("host=db.example user=u", &one), Ok(()));
        assert!(
            checked("postgres://u:secret@other/d", &one).is_err_and(|text| {
                text.contains("postgres://other:5432") && !text.contains("secret")
            })
        );
        assert!(checked("host=db.example,other user=u", &one).is_err());
        assert!(checked("host=db.example port=5433", &one).is_err());
        assert!(checked("host=db.example", &["http://db.example"]).is_err());
        assert_eq!(checked("host=db.example", &["*://*:*"]), Ok(()));
    }

    #[test]
    fn ports_belong_to_hosts_as_in_libpq() {
        let both = ["postgres://a:1", "postgres://b:2"];
        assert_eq!(checked("host=a,b port=1,2", &both), Ok(()));
        assert!(checked("host=a,b port=2,1", &both).is_err());
        assert!(checked("host=a,b port=1", &both).is_err());
        assert_eq!(
            checked("host=a,b port=1", &["postgres://*:1"]),
            Ok(()),
            "one port is for both"
        );
    }

    #[test]
    fn what_is_really_called_is_checked_too() {
        let name = ["postgres://a"];
        assert!(checked("host=a hostaddr=10.0.0.1", &name).is_err());
        let both = ["postgres://a", "postgres://10.0.0.0/8"];
        assert_eq!(checked("host=a hostaddr=10.0.0.1", &both), Ok(()));
        assert!(checked("hostaddr=10.0.0.1", &name).is_err());
        assert_eq!(checked("host=::1", &["postgres://[::1]"]), Ok(()));
        assert!(checked("host=/run/postgresql", &["*://*:*"]).is_err());
    }

    #[test]
    fn tls_is_refused_by_name() {
        let reason = checked("host=a sslmode=require", &["*://*:*"]).unwrap_err();
        assert!(reason.contains("sslmode=require"), "{reason}");
    }
}
