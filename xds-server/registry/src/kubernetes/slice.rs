//! One EndpointSlice, as the endpoints that it gives to services.
//!
//! Pure. The data is hostile: nothing in it can panic, a bad endpoint is the rejection of itself, and a slice that can't
//! be read as a whole says why.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadsman_core::model::{Address, Endpoint, Provenance, Rejection, ServiceName};
use serde_json::Value;
use serde_json::value::RawValue;

use super::config::{Config, Naming, NotReady};
use super::endpoint::Reading;
use crate::layout::entry::{Object, brief, list, map, port, text};
use crate::text::shorten;

/// The service of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) namespace: Arc<str>,
    pub(super) service: Arc<str>,
}

/// Who is the same object, and in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Arc<str>,
    pub(super) version: Arc<str>,
}

/// Whose word counts when two write about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Authority {
    /// The controller that copies old Endpoints objects.
    Mirror,
    Other,
    /// The controller that watches the pods.
    Controller,
}

/// What a slice says about one address, or why it says nothing.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Listed {
        endpoint: Endpoint,
        /// Of the pod behind it: its other family's address has the same.
        pod: Option<Arc<str>>,
    },
    /// It is there, and not to be used: no reason to wait for it.
    Omitted(Address),
    Refused(Rejection),
}

#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// `NAMESPACE/NAME`.
    pub(super) key: Arc<str>,
    pub(super) identity: Identity,
    /// `None` for a slice of no service.
    pub(super) owner: Option<Owner>,
    pub(super) authority: Authority,
    /// By the service that a port belongs to. Without any, the slice only says that its service exists.
    pub(super) entries: BTreeMap<ServiceName, Vec<Entry>>,
    /// Ports of services that no name fits.
    pub(super) strays: Vec<Rejection>,
    /// Why nothing of it could be read.
    pub(super) unreadable: Option<String>,
}

/// What the configuration has to say about reading.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    naming: Naming,
    main_port: Option<String>,
    pub(super) not_ready: NotReady,
}

/// The API's own limits. What is beyond is not from an API server, and would multiply.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 100;
/// Of names that the API bounds to fewer.
pub(super) const MAX_NAME_BYTES: usize = 253;
/// The layout in every provenance.
pub(super) const LAYOUT: &str = "endpointslice";

#[derive(Debug)]
struct Port {
    name: String,
    protocol: String,
    number: Option<i64>,
    application: String,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            naming: config.service_name,
            main_port: config.main_port.clone(),
            not_ready: config.not_ready,
        }
    }

    /// What a port of a service is called here.
    pub(super) fn name(&self, owner: &Owner, port: &str) -> Result<ServiceName, String> {
        let Owner { namespace, service } = owner;
        let mut name = match self.naming {
            Naming::Qualified => format!("{service}.{namespace}"),
            Naming::Name => service.to_string(),
        };
        if !port.is_empty() && self.main_port.as_deref() != Some(port) {
            name = format!("{name}:{port}");
        }
        ServiceName::new(&name).map_err(|error| format!("the service has no usable name: {error}"))
    }
}

/// Which object it is; `None` for what is no object with a name and a version.
pub(super) fn identify(raw: &RawValue) -> Option<(Arc<str>, Identity)> {
    let object: Object = serde_json::from_str(raw.get()).ok()?;
    identity(&object)
}

/// An EndpointSlice; `None` for what is no object with a name and a version.
pub(super) fn decode(rules: &Rules, raw: &RawValue) -> Option<Slice> {
    let object: Object = serde_json::from_str(raw.get()).ok()?;
    let (key, identity) = identity(&object)?;
    let metadata = map(&object, "metadata")?;
    let no_labels = Object::new();
    let labels = map(metadata, "labels").unwrap_or(&no_labels);
    let service = text(labels, "kubernetes.io/service-name");
    let owner = (!service.is_empty()).then(|| Owner {
        namespace: text(metadata, "namespace").into(),
        service: service.into(),
    });
    let mut slice = Slice {
        key,
        identity,
        owner: owner.clone(),
        authority: Authority::of(text(labels, "endpointslice.kubernetes.io/managed-by")),
        entries: BTreeMap::new(),
        strays: Vec::new(),
        unreadable: None,
    };
    let Some(owner) = owner else {
        let reason = "the label kubernetes.io/service-name is empty".to_owned();
        let provenance = Provenance::new(&slice.key, LAYOUT, b"", number(&slice.identity.version));
        slice.strays.push(Rejection { provenance, reason });
        return Some(slice);
    };
    let (ports, refused) = match ports(&object) {
        Ok(ports) => (ports, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let endpoints = match refused.map_or_else(|| endpoints(&object), Err) {
        Ok(endpoints) if ports.is_empty() && !endpoints.is_empty() => {
            slice.refuse(rules, &owner, &ports, "the slice has endpoints and no port");
            return Some(slice);
        }
        Ok(endpoints) => endpoints,
        Err(reason) => {
            slice.refuse(rules, &owner, &ports, &reason);
            slice.unreadable = Some(reason);
            return Some(slice);
        }
    };
    let endpoints: Vec<Reading> = endpoints
        .iter()
        .enumerate()
        .map(|(place, endpoint)| Reading::of(rules, &slice, place, endpoint))
        .collect();
    for port in &ports {
        slice.add(rules, &owner, port, &endpoints);
    }
    Some(slice)
}

fn identity(object: &Object) -> Option<(Arc<str>, Identity)> {
    let metadata = map(object, "metadata")?;
    let filled =
        |name: &str| Some(text(metadata, name)).filter(|text| !text.is_empty() && text.len() <= MAX_NAME_BYTES);
    let key = format!("{}/{}", filled("namespace")?, filled("name")?);
    let identity = Identity {
        uid: filled("uid")?.into(),
        version: filled("resourceVersion")?.into(),
    };
    Some((key.into(), identity))
}

/// The ports, or why the slice has none that can be read.
fn ports(slice: &Object) -> Result<Vec<Port>, String> {
    let ports = present(slice, "ports")?;
    if ports.len() > MAX_PORTS {
        return Err(format!(
            "the slice has {} ports, the API allows {MAX_PORTS}",
            ports.len()
        ));
    }
    let read = |value: &Value| {
        let object = value.as_object().ok_or("a port is not an object")?;
        Ok(Port {
            name: shorten(text(object, "name"), MAX_NAME_BYTES),
            protocol: shorten(text(object, "protocol"), MAX_NAME_BYTES),
            number: object
                .get("port")
                .filter(|number| !number.is_null())
                .map(|number| port(Some(number))),
            application: shorten(text(object, "appProtocol"), MAX_NAME_BYTES),
        })
    };
    ports.iter().map(read).collect()
}

/// The endpoints, or why none of them can be used.
fn endpoints(slice: &Object) -> Result<&[Value], String> {
    match text(slice, "addressType") {
        "IPv4" | "IPv6" => {}
        "FQDN" => return Err("addressType FQDN: EDS takes no host names".to_owned()),
        other => return Err(brief(&format!("addressType {other:?} is not known"))),
    }
    let endpoints = present(slice, "endpoints")?;
    if endpoints.len() > MAX_ENDPOINTS {
        return Err(format!(
            "the slice has {} endpoints, the API allows {MAX_ENDPOINTS}",
            endpoints.len()
        ));
    }
    Ok(endpoints)
}

/// A list that may be missing or null.
fn present<'o>(object: &'o Object, name: &str) -> Result<&'o [Value], String> {
    match object.get(name) {
        None => Ok(&[]),
        Some(_) => list(object, name).ok_or_else(|| format!("{name} is not a list")),
    }
}

impl Authority {
    fn of(manager: &str) -> Self {
        match manager {
            "endpointslice-controller.k8s.io" => Self::Controller,
            "endpointslicemirroring-controller.k8s.io" => Self::Mirror,
            _ => Self::Other,
        }
    }
}

impl Port {
    /// The number to connect to, or why there is none.
    fn usable(&self) -> Result<i64, String> {
        if !matches!(self.protocol.as_str(), "" | "TCP") {
            return Err(brief(&format!(
                "the port {:?} speaks {}, not TCP",
                self.name, self.protocol
            )));
        }
        match self.number {
            Some(number @ 1..=65535) => Ok(number),
            Some(_) => Err(format!("the number of the port {:?} is outside 1 to 65535", self.name)),
            None => Err(format!("the port {:?} has no number", self.name)),
        }
    }
}

impl Slice {
    /// Everything that a port makes of the endpoints.
    fn add(&mut self, rules: &Rules, owner: &Owner, port: &Port, endpoints: &[Reading]) {
        let name = match rules.name(owner, &port.name) {
            Ok(name) => name,
            Err(reason) => return self.strays.push(self.rejection(port, reason)),
        };
        let number = match port.usable() {
            Ok(number) => number,
            Err(reason) => {
                let refused = Entry::Refused(self.rejection(port, reason));
                return self.entries.entry(name).or_default().push(refused);
            }
        };
        let entries = self.entries.entry(name).or_default();
        entries.extend(endpoints.iter().map(|endpoint| endpoint.at(number, &port.application)));
    }

    /// Nothing can be read, and every service of the slice hears of it.
    fn refuse(&mut self, rules: &Rules, owner: &Owner, ports: &[Port], reason: &str) {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        let names = if names.is_empty() { vec![""] } else { names };
        for name in names {
            let provenance = Provenance::new(&self.key, LAYOUT, b"", number(&self.identity.version));
            let reason = reason.to_owned();
            let rejection = Rejection { provenance, reason };
            match rules.name(owner, name) {
                Ok(name) => self.entries.entry(name).or_default().push(Entry::Refused(rejection)),
                Err(_) => self.strays.push(rejection),
            }
        }
    }

    fn rejection(&self, port: &Port, reason: String) -> Rejection {
        let record = format!("{}:{}", self.key, port.name);
        Rejection {
            provenance: Provenance::new(
                &record,
                LAYOUT,
                format!("{port:?}").as_bytes(),
                number(&self.identity.version),
            ),
            reason,
        }
    }
}

/// A version as a number, where it is one.
pub(super) fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}
