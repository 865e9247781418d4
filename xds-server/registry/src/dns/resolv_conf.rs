//! The servers that the system asks.
//!
//! Only `nameserver` lines count: names are asked for as they are written, and times are those of the configuration.

use std::net::SocketAddr;

use super::config::server;

/// As many as any system uses, and some.
const MAX_SERVERS: usize = 8;

/// The servers in the text of a `resolv.conf`, in their order. Lines that are not understood are passed over.
pub(super) fn servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(address)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some(server) = server(address).filter(|server| !servers.contains(server) && servers.len() < MAX_SERVERS)
        {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_the_rest_is_passed_over() {
        let text = "# nameserver 10.0.0.9\n; comment\nsearch example.com\nnameserver 10.0.0.1 # first\n\tnameserver   ::1\n\
                    nameserver\nnameserver dns.example\nnameserver fe80::1%eth0\nnameserver 10.0.0.1\noptions ndots:5\n";
        let shown: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[::1]:53"]);
        let many: String = (0..100).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        assert_eq!(servers(&many).len(), MAX_SERVERS);
    }
}
