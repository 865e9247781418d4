//! What tests write into a Nacos with.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use leadsman_core::model::Health;
use serde_json::{Value, json};

use super::{ADMIN, Nacos, Version};
use crate::http::{Answer, Http};
use crate::instance::Instance;
use crate::wait::{PATIENT, until_ok};

/// What a server that everybody knows is asked as: whoever says this may do everything.
const IDENTITY: &str = "leadsman-tests";
/// How often instances would have to be heard of is set so high that those of a test live as long as it does.
const ONE_HOUR: &str = "3600000";

/// What a test writes with: one namespace of a server.
#[derive(Clone, Debug)]
pub struct Writer {
    version: Version,
    address: SocketAddr,
    pub namespace: String,
    http: Http,
}

impl Nacos {
    /// A way to write into a namespace that nobody else knows.
    pub async fn writer(&self, namespace: &str) -> Writer {
        let writer = Writer {
            version: self.setup.version,
            address: self.address(),
            namespace: namespace.to_owned(),
            http: Http::new(),
        };
        if self.setup.version == Version::V31 {
            let form = [
                ("namespaceId", namespace),
                ("namespaceName", &format!("name of {namespace}")),
                ("namespaceDesc", "a test"),
            ];
            writer.post("/v3/admin/core/namespace", &form).await;
        }
        writer
    }

    pub(super) async fn make_admin(&self) {
        let writer = self.writer("public").await;
        let (make, log_in) = match self.setup.version {
            Version::V25 => ("/v1/auth/users/admin", "/v1/auth/login"),
            Version::V31 => ("/v3/auth/user/admin", "/v3/auth/user/login"),
        };
        let (name, password) = ADMIN;
        writer.post(make, &[("password", password)]).await;
        until_ok(PATIENT, "the administrator to be known", async || {
            let form = [("username", name), ("password", password)];
            let answer = writer.call(Method::POST, log_in, &form).await;
            if answer.status == StatusCode::OK {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await;
    }
}

impl Writer {
    /// Registers an instance, or changes it.
    pub async fn register(&self, group: &str, service: &str, fields: &Value) {
        let mut form = self.about(group, service);
        let mut metadata = fields["metadata"].as_object().cloned().unwrap_or_default();
        for key in ["preserved.heart.beat.timeout", "preserved.ip.delete.timeout"] {
            metadata.entry(key).or_insert_with(|| json!(ONE_HOUR));
        }
        form.push(("metadata", Value::Object(metadata).to_string()));
        for (key, value) in fields.as_object().into_iter().flatten() {
            let key = match key.as_str() {
                "ip" => "ip",
                "port" => "port",
                "weight" => "weight",
                "healthy" => "healthy",
                "enabled" => "enabled",
                "ephemeral" => "ephemeral",
                "clusterName" => "clusterName",
                _ => continue,
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            form.push((key, text));
        }
        let form: Vec<(&str, &str)> = form.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.post("/v1/ns/instance", &form).await;
    }

    pub async fn deregister(&self, group: &str, service: &str, port: u16) {
        let mut form = self.about(group, service);
        form.extend([("ip", "127.0.0.1".to_owned()), ("port", port.to_string())]);
        let form: Vec<(&str, &str)> = form.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let answer = self.call(Method::DELETE, "/v1/ns/instance", &form).await;
        assert!(answer.status.is_success(), "Nacos refused: {}", answer.text());
    }

    /// Makes a service whose instances are all shown as healthy when no more than this share of them is.
    pub async fn protect(&self, group: &str, service: &str, threshold: &str) {
        let mut form = self.about(group, service);
        form.push(("protectThreshold", threshold.to_owned()));
        form.push(("ephemeral", "true".to_owned()));
        let form: Vec<(&str, &str)> = form.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let path = match self.version {
            Version::V25 => "/v2/ns/service",
            Version::V31 => "/v3/admin/ns/service",
        };
        self.post(path, &form).await;
    }

    /// Makes a user who may read this namespace.
    pub async fn make_reader(&self, name: &str, password: &str) {
        let role = format!("role-of-{name}");
        let resource = format!("{}:*:*", self.namespace);
        self.post("/v1/auth/users", &[("username", name), ("password", password)])
            .await;
        self.post("/v1/auth/roles", &[("role", &role), ("username", name)])
            .await;
        let permission = [("role", role.as_str()), ("resource", &resource), ("action", "r")];
        self.post("/v1/auth/permissions", &permission).await;
    }

    /// As the administrator: this is the one thing that needs her in person.
    pub async fn change_password(&self, name: &str, password: &str) {
        let login = [("username", ADMIN.0), ("password", ADMIN.1)];
        let login = self.call(Method::POST, "/v1/auth/login", &login).await;
        let login: Value = serde_json::from_slice(&login.body).unwrap_or_default();
        let token = login["accessToken"].as_str().unwrap_or_default();
        let form = [("username", name), ("newPassword", password), ("accessToken", token)];
        let answer = self.call(Method::PUT, "/v1/auth/users", &form).await;
        assert!(answer.status.is_success(), "Nacos refused: {}", answer.text());
    }

    /// # Panics
    /// When the server refuses.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) {
        let answer = self.call(Method::POST, path, form).await;
        assert!(
            answer.status.is_success(),
            "Nacos refused {path} {form:?}: {}",
            answer.text()
        );
    }

    fn about(&self, group: &str, service: &str) -> Vec<(&'static str, String)> {
        vec![
            ("namespaceId", self.namespace.clone()),
            ("groupName", group.to_owned()),
            ("serviceName", service.to_owned()),
        ]
    }

    async fn call(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Answer {
        let in_person = form.iter().any(|(key, _)| *key == "accessToken");
        let form = encode(form);
        let (query, body) = match method {
            Method::POST => (String::new(), form),
            _ => (format!("?{form}"), String::new()),
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        let uri = format!("http://{}/nacos{path}{query}", self.address);
        *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("{uri}: {error}"));
        let headers = request.headers_mut();
        // Whoever says this is not asked who it is.
        if !in_person {
            headers.insert(IDENTITY, header::HeaderValue::from_static(IDENTITY));
        }
        let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        let answer = self.http.send(request).await;
        answer.unwrap_or_else(|error| panic!("Nacos does not answer {path}: {error:#}"))
    }
}

/// An instance as Nacos writes it.
pub fn record(instance: Instance) -> Value {
    let Instance { port, weight, health } = instance;
    json!({
        "ip": "127.0.0.1", "port": port,
        "weight": if health == Health::Draining { 0.0 } else { weight },
        "healthy": health != Health::Unhealthy,
    })
}

fn encode(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        let escaped = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        escaped.collect()
    };
    let pairs: Vec<_> = form
        .iter()
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            encode(&[("a", "b c"), ("d", r#"{"e":1}"#)]),
            "a=b%20c&d=%7B%22e%22%3A1%7D"
        );
    }
}
