//! A client of the built-in registry's HTTP API, as small as one that a service would have.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::http::{Answer, Http};
use crate::instance::Instance;
use crate::wait::{PATIENT, until_ok};

/// Long enough for any test: instances that nobody renews must not leave of themselves.
pub const LASTING: u32 = 3600;

/// One client, with one token or none.
#[derive(Clone, Debug)]
pub struct Registrar {
    pub address: SocketAddr,
    pub token: Option<String>,
    http: Http,
}

impl Registrar {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            token: None,
            http: Http::new(),
        }
    }

    /// The same with a token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// # Errors
    /// When there is no answer at all.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Answer> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://{}{path}", self.address).parse()?;
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        self.http.send(request).await
    }

    /// The status and the JSON of an answer that has to come.
    ///
    /// # Panics
    /// When it does not come, or is no JSON.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self.call(method, path, body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error:#}"));
        let read = serde_json::from_slice(&answer.body);
        (
            answer.status.as_u16(),
            read.unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.text())),
        )
    }

    /// As [`Registrar::ask`], tried until the answer says that it is done: a registry that was away, or a connection that
    /// was cut, is no reason for a client to give up.
    ///
    /// # Panics
    /// When it never is.
    pub async fn insist(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        until_ok(PATIENT, path, async || {
            let answer = self.call(method.clone(), path, body.clone()).await?;
            anyhow::ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
            anyhow::Ok(serde_json::from_slice(&answer.body)?)
        })
        .await
    }

    /// Registers, or changes, an instance under the id of its port, and in service.
    pub async fn put(&self, service: &str, instance: Instance, ttl_seconds: u32) -> Value {
        let path = path(service, instance.port);
        let receipt = self.insist(Method::PUT, &path, Some(body(instance, ttl_seconds))).await;
        if receipt["draining"] == json!(true) {
            return self.insist(Method::DELETE, &format!("{path}/draining"), None).await;
        }
        receipt
    }

    pub async fn remove(&self, service: &str, port: u16) -> Value {
        self.insist(Method::DELETE, &path(service, port), None).await
    }

    pub async fn drain(&self, service: &str, port: u16) -> Value {
        self.insist(Method::PUT, &format!("{}/draining", path(service, port)), None)
            .await
    }
}

/// The path of the instance that listens on a port.
pub fn path(service: &str, port: u16) -> String {
    format!("/v1/services/{service}/instances/{port}")
}

/// What registers an instance.
pub fn body(instance: Instance, ttl_seconds: u32) -> Value {
    let mut body = instance.record();
    body["ttl_seconds"] = ttl_seconds.into();
    body
}
