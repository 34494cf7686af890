//! Signs requests: AWS Signature Version 4, with the hash of the whole body, so that the server notices what the way changed.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The SHA-256 of no bytes: what a request without a body signs.
pub const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What is signed of a request.
pub struct Request<'a> {
    /// GET, PUT, DELETE.
    pub method: &'a str,
    /// The path, encoded as it is sent.
    pub path: &'a str,
    /// The query, encoded as it is sent, its names in their order.
    pub query: &'a str,
    /// The header Host as it is sent.
    pub host: &'a str,
    /// The SHA-256 of the body, in hexadecimal digits.
    pub body: &'a str,
    /// When: `20261125T210411Z`.
    pub at: &'a str,
}

/// The header Authorization of a request.
pub fn authorization(request: &Request<'_>, region: &str, (key, secret): (&str, &str)) -> String {
    let Request { method, path, query, host, body, at } = request;
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let canonical =
        format!("{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{body}\nx-amz-date:{at}\n\n{signed}\n{body}");
    let day = at.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/s3/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", sha256([canonical.as_bytes()]));
    let parts = [day, region, "s3", "aws4_request", &to_sign];
    let signature = parts.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={}", hex::encode(signature))
}

/// The SHA-256 of what these make up together, in hexadecimal digits.
pub fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    hex::encode(hash.finalize())
}

/// Text as it stands in a path, whose slashes stay, or in a query, where they do not.
pub fn encoded(text: &str, slashes: bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if slashes => out.push('/'),
            other => drop(write!(out, "%{other:02X}")),
        }
        out
    })
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key of any length will do, so there is nothing that could fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_the_documentation_of_s3_signs_its_example() {
        // "Signature Calculations for the Authorization Header", example GET Bucket (List Objects), whose signed headers are ours.
        let request = Request {
            method: "GET",
            path: "/",
            query: "max-keys=2&prefix=J",
            host: "examplebucket.s3.amazonaws.com",
            body: EMPTY,
            at: "20130524T000000Z",
        };
        let key = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let header = authorization(&request, "us-east-1", key);
        assert!(header.ends_with("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"), "{header}");
        assert!(header.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"), "{header}");
        assert_eq!(sha256([]), EMPTY);
    }

    #[test]
    fn what_a_path_or_a_query_cannot_hold_is_encoded() {
        assert_eq!(encoded("a/b c+d=ñ~", true), "a/b%20c%2Bd%3D%C3%B1~");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
