//! Connected apps: sign-in with a JWT that the app has signed (direct trust, HS256).

use std::collections::HashMap;
use std::sync::Mutex;

use chrono::Utc;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::store::held;

/// How long a JWT may be valid at most, in seconds; servers refuse one that is issued for longer.
const MAX_LIFE: i64 = 600;
/// How much the clocks of both sides may differ, in seconds.
const CLOCK_SKEW: i64 = 60;
/// The block of SHA-256, which HMAC is defined with.
const BLOCK: usize = 64;

/// A connected app (direct trust) that may sign users in.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectedApp {
    /// Its client id, the issuer of its JWTs.
    pub client_id: String,
    /// The id of its secret, the `kid` of its JWTs.
    pub secret_id: String,
    /// The secret itself.
    pub secret: String,
}

impl ConnectedApp {
    /// Makes an app of its client id, the id of its secret, and the secret.
    pub fn new(client_id: impl Into<String>, secret_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), secret_id: secret_id.into(), secret: secret.into() }
    }
}

impl std::fmt::Debug for ConnectedApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectedApp").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// The ids of JWTs that were used, with when they expire.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashMap<String, i64>>);

/// What an accepted JWT gives.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) user: String,
    pub(crate) scopes: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    iss: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    jti: String,
    aud: Audience,
    sub: String,
    #[serde(default)]
    scp: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Seen {
    /// Checks a JWT and remembers that it was used; the reason is for the log, since servers do not tell.
    pub(crate) fn accept(&self, jwt: &str, apps: &[ConnectedApp]) -> Result<Grant, String> {
        let pieces: Vec<&str> = jwt.split('.').collect();
        let [header, claims, signature] = pieces.as_slice() else { return Err("a JWT has three pieces".into()) };
        let head: Header = read(header).ok_or("the header cannot be read")?;
        let said: Claims = read(claims).ok_or("the claims cannot be read, or one of iss, exp, jti, aud, sub is missing")?;
        if head.alg != "HS256" {
            return Err(format!("signed with {}, not with HS256", head.alg));
        }
        let app = apps.iter().find(|app| app.client_id == said.iss && Some(&app.secret_id) == head.kid.as_ref());
        let app = app.ok_or("no connected app has this iss and kid")?;
        if head.iss.is_some_and(|iss| iss != app.client_id) {
            return Err("the iss of the header is another than that of the claims".into());
        }
        let expected = hmac(app.secret.as_bytes(), format!("{header}.{claims}").as_bytes());
        if decode(signature).is_none_or(|signature| signature != expected) {
            return Err("the signature is wrong".into());
        }
        let now = Utc::now().timestamp();
        if said.exp <= now || said.exp > now + MAX_LIFE + CLOCK_SKEW {
            return Err(format!("exp is {} s from now, allowed are 1 to {MAX_LIFE}", said.exp - now));
        }
        let here = match &said.aud {
            Audience::One(aud) => aud == "tableau",
            Audience::Several(list) => list.iter().any(|aud| aud == "tableau"),
        };
        if !here {
            return Err("aud is not tableau".into());
        }
        if said.scp.is_empty() {
            return Err("scp has no scope".into());
        }
        if said.jti.is_empty() {
            return Err("jti is empty".into());
        }
        let mut seen = held(&self.0);
        seen.retain(|_, exp| *exp > now);
        if seen.insert(said.jti, said.exp).is_some() {
            return Err("this jti was used before".into());
        }
        Ok(Grant { user: said.sub, scopes: said.scp })
    }
}

fn read<T: for<'a> Deserialize<'a>>(piece: &str) -> Option<T> {
    serde_json::from_slice(&decode(piece)?).ok()
}

/// Reads base64url without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// HMAC with SHA-256 (RFC 2104); ten lines that need no further dependency.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; BLOCK];
    let hashed = Sha256::digest(key);
    let key = if key.len() > BLOCK { hashed.as_slice() } else { key };
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_test_case_holds() {
        // RFC 4231, test cases 2 and 6.
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let short = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn base64url_is_read() {
        assert_eq!(decode("eyJhIjoiw7_Dvi0ifQ"), Some("{\"a\":\"ÿþ-\"}".as_bytes().to_vec()));
        assert_eq!(decode("a+b"), None);
    }
}
