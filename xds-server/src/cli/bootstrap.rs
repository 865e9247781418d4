//! `leadsman bootstrap`: what an Envoy, or a gRPC client, needs to find us, and nothing else.
//!
//! The text is the same for the same flags, holds no secret, and is written so that a person can edit it. JSON is
//! read back from the YAML, so the two can't differ.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Bootstrap {
    /// The name of this Envoy, unique among those that connect.
    #[arg(long, value_name = "ID")]
    node_id: String,
    /// The group this Envoy belongs to.
    #[arg(long, value_name = "NAME", default_value = "envoy")]
    cluster: String,
    /// Where Leadsman listens for Envoys.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18000")]
    xds: HostPort,
    /// Where this Envoy serves its own admin pages; they ask for no password.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Where this Envoy runs.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Where in the region.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Where in the zone.
    #[arg(long, value_name = "NAME")]
    sub_zone: Option<String>,
    /// Connect with TLS and accept a server whose certificate comes from these authorities (PEM).
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show to the server (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_ca", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// For a gRPC client instead: what goes into the file that `GRPC_XDS_BOOTSTRAP` names, as JSON.
    #[arg(long, conflicts_with_all = ["admin", "output"])]
    grpc: bool,
    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// A host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not host:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let name = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_');
        if host.is_empty() || !(name || host.parse::<IpAddr>().is_ok()) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl Bootstrap {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.node_id.is_empty() || self.cluster.is_empty() {
            return Err(Failure::Usage(
                "Envoy needs a node id and a cluster that are not empty".to_owned(),
            ));
        }
        if self.grpc {
            return output::print(&output::json(&self.grpc_bootstrap())?);
        }
        let yaml = self.yaml();
        output::print(&match self.output {
            Format::Yaml => yaml,
            Format::Json => {
                let value: serde_json::Value = serde_saphyr::from_str(&yaml).map_err(Failure::from_error)?;
                output::json(&value)?
            }
        })
    }

    fn yaml(&self) -> String {
        let is_ip = self.xds.host.parse::<IpAddr>().is_ok();
        format!(
            include_str!("bootstrap.yaml.in"),
            node_id = quoted(&self.node_id),
            cluster = quoted(&self.cluster),
            locality = self.locality(),
            admin_host = quoted(&self.admin.ip().to_string()),
            admin_port = self.admin.port(),
            discovery = if is_ip { "STATIC" } else { "STRICT_DNS" },
            host = quoted(&self.xds.host),
            port = self.xds.port,
            transport = self.transport(is_ip),
        )
    }

    /// The format is gRPC's own: <https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md>.
    fn grpc_bootstrap(&self) -> serde_json::Value {
        let mut node = serde_json::json!({ "id": self.node_id, "cluster": self.cluster });
        let parts = self.locality_parts();
        let locality: serde_json::Map<_, _> = parts
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into())))
            .collect();
        if !locality.is_empty() {
            node["locality"] = locality.into();
        }
        let credentials = match &self.tls_ca {
            None => serde_json::json!({ "type": "insecure" }),
            Some(ca) => {
                let mut config = serde_json::json!({ "ca_certificate_file": ca });
                if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
                    config["certificate_file"] = cert.display().to_string().into();
                    config["private_key_file"] = key.display().to_string().into();
                }
                serde_json::json!({ "type": "tls", "config": config })
            }
        };
        let host = match self.xds.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("[{}]", self.xds.host),
            Ok(IpAddr::V4(_)) | Err(_) => self.xds.host.clone(),
        };
        serde_json::json!({
            "node": node,
            "xds_servers": [{
                "server_uri": format!("{host}:{}", self.xds.port),
                "channel_creds": [credentials],
                "server_features": ["xds_v3"],
            }],
        })
    }

    fn locality_parts(&self) -> [(&'static str, &Option<String>); 3] {
        [
            ("region", &self.region),
            ("zone", &self.zone),
            ("sub_zone", &self.sub_zone),
        ]
    }

    fn locality(&self) -> String {
        let parts = self.locality_parts();
        let mut text = String::new();
        for (key, value) in parts {
            if let Some(value) = value {
                if text.is_empty() {
                    text.push_str("  locality:\n");
                }
                // Writing to a String can't fail.
                let _ = writeln!(text, "    {key}: {}", quoted(value));
            }
        }
        text
    }

    fn transport(&self, is_ip: bool) -> String {
        let Some(ca) = &self.tls_ca else {
            return String::new();
        };
        let path = |path: &PathBuf| quoted(&path.display().to_string());
        let certificate = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => format!(
                include_str!("bootstrap_certificate.yaml.in"),
                cert = path(cert),
                key = path(key)
            ),
            (Some(_) | None, Some(_) | None) => String::new(),
        };
        format!(
            include_str!("bootstrap_tls.yaml.in"),
            sni = if is_ip {
                "\"\"".to_owned()
            } else {
                quoted(&self.xds.host)
            },
            ca = path(ca),
            san_type = if is_ip { "IP_ADDRESS" } else { "DNS" },
            host = quoted(&self.xds.host),
            certificate = certificate,
        )
    }
}

/// A JSON string is a YAML string, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bootstrap: Bootstrap,
    }

    fn bootstrap(flags: &[&str]) -> Result<Bootstrap, clap::Error> {
        let flags = ["leadsman", "--node-id", "edge-1"].iter().chain(flags);
        Line::try_parse_from(flags).map(|line| line.bootstrap)
    }

    #[test]
    fn the_text_is_yaml_whatever_the_names_hold() {
        let bootstrap = bootstrap(&["--zone", "a: \"b\"\n#c", "--xds", "[::1]:18000", "--admin", "[::1]:1"]).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&bootstrap.yaml()).unwrap();
        assert_eq!(value["node"]["locality"], serde_json::json!({ "zone": "a: \"b\"\n#c" }));
        let cluster = &value["static_resources"]["clusters"][0];
        assert_eq!(cluster["type"], "STATIC");
        let address = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
        assert_eq!(
            address["socket_address"],
            serde_json::json!({ "address": "::1", "port_value": 18000 })
        );
        assert_eq!(value["admin"]["address"]["socket_address"]["address"], "::1");
    }

    #[test]
    fn the_file_that_users_copy_begins_with_what_this_prints() {
        let copied = include_str!("../../../envoy-config/bootstrap.yaml");
        let printed = bootstrap(&[]).unwrap().yaml();
        assert!(
            copied.starts_with(&printed),
            "write this into envoy-config/bootstrap.yaml:\n{printed}"
        );
        let value: serde_json::Value = serde_saphyr::from_str(copied).unwrap();
        assert!(value["static_resources"]["listeners"].is_array());
    }

    #[test]
    fn a_host_name_is_resolved_by_envoy() {
        let bootstrap = bootstrap(&["--xds", "leadsman.internal:18000"]).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&bootstrap.yaml()).unwrap();
        assert_eq!(value["static_resources"]["clusters"][0]["type"], "STRICT_DNS");
        assert_eq!(value["static_resources"]["clusters"][0].get("transport_socket"), None);
        assert_eq!(value["node"].get("locality"), None);
    }

    #[test]
    fn a_grpc_client_gets_its_own_format() {
        let flags = ["--grpc", "--xds", "[::1]:18000", "--zone", "a", "--tls-ca", "ca.pem"];
        let expected = serde_json::json!({
            "node": { "id": "edge-1", "cluster": "envoy", "locality": { "zone": "a" } },
            "xds_servers": [{
                "server_uri": "[::1]:18000",
                "channel_creds": [{ "type": "tls", "config": { "ca_certificate_file": "ca.pem" } }],
                "server_features": ["xds_v3"],
            }],
        });
        assert_eq!(bootstrap(&flags).unwrap().grpc_bootstrap(), expected);
        assert!(bootstrap(&["--grpc", "-o", "yaml"]).is_err());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "localhost",
            "localhost:0",
            ":18000",
            "a b:1",
            "[::1]",
            "localhost:70000",
            "a/b:1",
        ] {
            assert!(bootstrap(&["--xds", text]).is_err(), "{text}");
        }
    }
}
