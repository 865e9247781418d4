//! What an operator may say about how a service appears in Istio.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest label and the longest name of DNS.
pub(crate) const MAX_LABEL_BYTES: usize = 63;
pub(crate) const MAX_HOST_BYTES: usize = 253;

/// Room that a template leaves for the name of a service: enough for a readable part of it.
const LEAST_ROOM: usize = 64;

/// What stands for the name of the service.
const SERVICE: &str = "{service}";

/// How a service appears in Istio: one host with one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Istio {
    pub host: HostTemplate,
    /// What clients in the mesh say after the host; the instances' own ports are another matter.
    pub port: NonZeroU16,
    pub namespace: Namespace,
}

/// The host of a service as clients in the mesh write it, in which `{service}` stands for the service's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostTemplate(Arc<str>);

/// The Kubernetes namespace that a service belongs to in Istio. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

/// Why a text is no host or no namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("{0:?} is not made of lower-case letters, digits and hyphens, up to 63 between two dots")]
    Label(String),
    #[error("`{{service}}` stands in it twice")]
    Twice,
    #[error("`{{service}}` stands next to other letters; put a dot between them")]
    Mixed,
    #[error("the host leaves no room for the name of a service: it has at most 253 bytes")]
    TooLong,
}

impl HostTemplate {
    /// # Errors
    /// [`HostError`], one variant a rule.
    pub fn new(text: &str) -> Result<Self, HostError> {
        let mut named = false;
        for label in text.split('.') {
            if label == SERVICE {
                if std::mem::replace(&mut named, true) {
                    return Err(HostError::Twice);
                }
            } else if label.contains(SERVICE) {
                return Err(HostError::Mixed);
            } else if !is_label(label) {
                return Err(HostError::Label(label.chars().take(80).collect()));
            }
        }
        let template = Self(text.into());
        let room = if named { template.room() } else { LEAST_ROOM };
        if room < LEAST_ROOM || text.len() > MAX_HOST_BYTES {
            return Err(HostError::TooLong);
        }
        Ok(template)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two services never share the host.
    pub fn names_the_service(&self) -> bool {
        self.0.contains(SERVICE)
    }

    /// How long what stands for the service may be.
    pub(crate) fn room(&self) -> usize {
        (MAX_HOST_BYTES + SERVICE.len()).saturating_sub(self.0.len())
    }

    pub(crate) fn fill(&self, labels: &str) -> String {
        self.0.replace(SERVICE, labels)
    }
}

impl Namespace {
    /// # Errors
    /// [`HostError::Label`] for what is no label of DNS.
    pub fn new(text: &str) -> Result<Self, HostError> {
        if is_label(text) {
            Ok(Self(text.into()))
        } else {
            Err(HostError::Label(text.chars().take(80).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text can stand between two dots of a host.
pub(crate) fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = text.starts_with('-') || text.ends_with('-');
    !text.is_empty() && text.len() <= MAX_LABEL_BYTES && text.bytes().all(allowed) && !ends
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = HostError;

            fn try_from(text: String) -> Result<Self, HostError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(HostTemplate);
text!(Namespace);

impl Default for Istio {
    fn default() -> Self {
        Self {
            host: HostTemplate("{service}.leadsman.internal".into()),
            port: NonZeroU16::new(80).unwrap_or(NonZeroU16::MIN),
            namespace: Namespace("leadsman".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_of_dns_in_which_the_service_is_whole_labels() {
        for good in [
            "{service}.leadsman.internal",
            "a.{service}.b",
            "{service}",
            "orders.example.com",
        ] {
            assert!(HostTemplate::new(good).is_ok(), "{good}");
        }
        assert_eq!(HostTemplate::new("svc-{service}.x"), Err(HostError::Mixed));
        assert_eq!(HostTemplate::new("{service}.{service}"), Err(HostError::Twice));
        for label in ["", "*", "Shop", "a_b", "-a", "a-"] {
            let host = format!("x.{label}");
            assert_eq!(
                HostTemplate::new(&host),
                Err(HostError::Label(label.to_owned())),
                "{host}"
            );
        }
        let long = format!("{{service}}.{}", ["abcdefghi"; 20].join("."));
        assert_eq!(HostTemplate::new(&long), Err(HostError::TooLong));
        assert_eq!(Namespace::new("a.b"), Err(HostError::Label("a.b".to_owned())));
    }

    #[test]
    fn the_defaults_keep_their_own_rules() {
        let Istio { host, namespace, .. } = Istio::default();
        assert_eq!(HostTemplate::new(host.as_str()), Ok(host));
        assert_eq!(Namespace::new(namespace.as_str()), Ok(namespace));
    }
}
