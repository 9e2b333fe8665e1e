//! Tokens and passwords made by the server. All of them name a login and are proved with one key; whether they still
//! hold is read from the login's row. Nothing secret needs to be stored.

use crate::{
    clock::Timestamp,
    ids::{DeviceId, LoginId, UserId},
    secret::Secret,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The one algorithm that is made and accepted.
const ALGORITHM: Algorithm = Algorithm::HS256;
/// Bytes of an opaque password's proof: 192 bits.
const PROOF_BYTES: usize = 24;

/// What a JWT is for; one is never accepted for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    /// REST, and MQTT until it ends.
    Access,
    /// `POST /auth/refresh`.
    Refresh,
}

/// Claims of a JWT.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// User.
    pub sub: UserId,
    /// Login.
    pub lid: LoginId,
    /// Device.
    pub did: DeviceId,
    /// What for.
    #[serde(rename = "use")]
    pub token_use: TokenUse,
    /// Number of a refresh token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    /// Issued at, seconds.
    pub iat: i64,
    /// Ends at, seconds.
    pub exp: i64,
}

/// What an opaque password is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpaqueUse {
    /// `mqtt.password` of a login answer: MQTT only.
    Mqtt,
    /// A device token: MQTT and REST.
    DeviceToken,
}

impl OpaqueUse {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Mqtt => "cm_",
            Self::DeviceToken => "cd_",
        }
    }
}

/// Makes and checks credentials.
pub struct Credentials {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    opaque_key: Secret<Vec<u8>>,
}

impl Credentials {
    /// With the operator's secret (at least 32 bytes, checked by the configuration).
    pub fn new(secret: &Secret<Vec<u8>>) -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.leeway = 0;
        validation.validate_exp = false; // By our own clock, in `read_jwt`.
        validation.required_spec_claims = ["exp", "sub"].map(String::from).into();
        // A key of its own, so that no JWT is ever a proof of the other kind.
        let opaque_key = mac(secret.expose(), &[b"curlew opaque credentials"]).to_vec();
        Self {
            encoding: EncodingKey::from_secret(secret.expose()),
            decoding: DecodingKey::from_secret(secret.expose()),
            validation,
            opaque_key: Secret::new(opaque_key),
        }
    }

    /// Signs `claims`.
    pub fn make_jwt(&self, claims: &Claims) -> Secret<String> {
        let token = jsonwebtoken::encode(&Header::new(ALGORITHM), claims, &self.encoding);
        Secret::new(token.expect("HMAC signing of plain claims cannot fail"))
    }

    /// Claims of a token that we signed, for this use, not ended.
    pub fn read_jwt(&self, token: &str, token_use: TokenUse, now: Timestamp) -> Option<Claims> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        (claims.token_use == token_use && claims.exp > now.seconds()).then_some(claims)
    }

    /// The opaque password of a login: 57 characters.
    pub fn make_opaque(&self, opaque_use: OpaqueUse, login: LoginId) -> Secret<String> {
        let mut bytes = login.uuid().as_bytes().to_vec();
        bytes.extend_from_slice(&self.proof(opaque_use, login));
        Secret::new(format!("{}{}", opaque_use.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The login an opaque password proves.
    pub fn read_opaque(&self, opaque_use: OpaqueUse, password: &str) -> Option<LoginId> {
        let bytes = URL_SAFE_NO_PAD.decode(password.strip_prefix(opaque_use.prefix())?).ok()?;
        let (id, proof) = bytes.split_at_checked(16)?;
        let login = LoginId::from(Uuid::from_slice(id).ok()?);
        bool::from(self.proof(opaque_use, login).ct_eq(proof)).then_some(login)
    }

    /// A password for a user made for demonstration: 16 characters.
    pub fn demo_password(&self, username: &str) -> Secret<String> {
        let full = mac(self.opaque_key.expose(), &[b"demo password", username.as_bytes()]);
        Secret::new(URL_SAFE_NO_PAD.encode(&full[..12]))
    }

    fn proof(&self, opaque_use: OpaqueUse, login: LoginId) -> [u8; PROOF_BYTES] {
        let full = mac(self.opaque_key.expose(), &[opaque_use.prefix().as_bytes(), login.uuid().as_bytes()]);
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(&full[..PROOF_BYTES]);
        proof
    }
}

/// HMAC-SHA256 over the parts, each preceded by its length.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials::new(&Secret::new(vec![7; 32]))
    }

    fn claims(token_use: TokenUse) -> Claims {
        let id = Uuid::from_u128(5);
        Claims { sub: id.into(), lid: id.into(), did: id.into(), token_use, n: None, iat: 0, exp: 100 }
    }

    #[test]
    fn tokens_are_good_for_their_use_and_time_only() {
        let credentials = credentials();
        let token = credentials.make_jwt(&claims(TokenUse::Access));
        assert!(credentials.read_jwt(token.expose(), TokenUse::Access, Timestamp(99_999)).is_some());
        assert!(credentials.read_jwt(token.expose(), TokenUse::Access, Timestamp(100_000)).is_none());
        assert!(credentials.read_jwt(token.expose(), TokenUse::Refresh, Timestamp(0)).is_none());
        let other = Credentials::new(&Secret::new(vec![8; 32]));
        assert!(other.read_jwt(token.expose(), TokenUse::Access, Timestamp(0)).is_none());
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let claims = serde_json::to_string(&claims(TokenUse::Access)).unwrap();
        for header in [r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"HS512","typ":"JWT"}"#] {
            let token = format!("{}.{}.", part(header), part(&claims));
            assert!(credentials().read_jwt(&token, TokenUse::Access, Timestamp(0)).is_none());
        }
    }

    #[test]
    fn opaque_passwords_prove_one_login_for_one_use() {
        let credentials = credentials();
        let login = Uuid::from_u128(9).into();
        let password = credentials.make_opaque(OpaqueUse::Mqtt, login);
        assert_eq!(credentials.read_opaque(OpaqueUse::Mqtt, password.expose()), Some(login));
        assert_eq!(credentials.read_opaque(OpaqueUse::DeviceToken, password.expose()), None);
        let mut forged = password.expose().clone();
        forged.replace_range(56.., "A");
        if forged != *password.expose() {
            assert_eq!(credentials.read_opaque(OpaqueUse::Mqtt, &forged), None);
        }
        assert_eq!(credentials.read_opaque(OpaqueUse::Mqtt, "cm_AAAA"), None);
    }
}
