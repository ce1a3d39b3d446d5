//! The signed word with which a connected app signs in: minted anew for each sign-in, and short-lived.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::config::Secret;
use crate::error::{Kind, Result, Wrap};

/// How long a word is good for: it is used once and at once, and the servers' clocks may differ by minutes.
const LIFE: i64 = 300;

/// What a publish, its look-ups and its care take; asked for unless the configuration names others.
pub(super) const SCOPES: &[&str] = &[
    "tableau:content:read",
    // No part of `datasources`, although it is their tags that an overwrite takes and that are given back.
    "tableau:datasource_tags:update",
    "tableau:datasources:*",
    "tableau:file_uploads:create",
    // Grantees are named, and permissions go by ids.
    "tableau:groups:read",
    "tableau:jobs:read",
    "tableau:permissions:*",
    "tableau:projects:*",
    "tableau:users:read",
];

/// Whom a word speaks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claims<'a> {
    pub(super) client_id: &'a str,
    pub(super) secret_id: &'a str,
    pub(super) user: &'a str,
    pub(super) scopes: &'a [String],
}

/// Mints a word at a time in seconds since 1970; `id` must never have been used before.
pub(super) fn mint(claims: Claims<'_>, secret: &Secret, now: i64, id: &str) -> Result<Secret> {
    let head = json!({ "alg": "HS256", "typ": "JWT", "kid": claims.secret_id, "iss": claims.client_id });
    let scopes: Vec<&str> =
        if claims.scopes.is_empty() { SCOPES.to_vec() } else { claims.scopes.iter().map(String::as_str).collect() };
    let body = json!({
        "iss": claims.client_id,
        "exp": now.saturating_add(LIFE),
        "jti": id,
        "aud": "tableau",
        "sub": claims.user,
        "scp": scopes,
    });
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(body.to_string()));
    let signature = sign(signed.as_bytes(), secret.reveal().as_bytes())?;
    Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn sign(text: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).wrap(Kind::Unexpected, || "cannot sign with the secret".to_owned())?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_rfc_4231_does() {
        let signature = sign(b"what do ya want for nothing?", b"Jefe").unwrap();
        let shown: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(shown, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_word_says_who_for_what_and_until_when() {
        let scopes = ["tableau:content:read".to_owned()];
        let claims = Claims { client_id: "C", secret_id: "S", user: "anna@acme.com", scopes: &scopes };
        let word = mint(claims, &Secret::new("k"), 1_000, "once").unwrap();
        let parts: Vec<&str> = word.reveal().split('.').collect();
        let read = |part: &str| -> serde_json::Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
        assert_eq!(read(parts[0]), json!({ "alg": "HS256", "typ": "JWT", "kid": "S", "iss": "C" }));
        let expected = json!({ "iss": "C", "exp": 1_300, "jti": "once", "aud": "tableau", "sub": "anna@acme.com",
            "scp": ["tableau:content:read"] });
        assert_eq!(read(parts[1]), expected);
        let signed = format!("{}.{}", parts[0], parts[1]);
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap(), sign(signed.as_bytes(), b"k").unwrap());
        let all = mint(Claims { scopes: &[], ..claims }, &Secret::new("k"), 0, "x").unwrap();
        let body = read(all.reveal().split('.').nth(1).unwrap());
        assert_eq!(body["scp"], json!(SCOPES));
    }
}
