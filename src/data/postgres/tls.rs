//! TLS towards PostgreSQL: verified where a CA is given, otherwise encrypted only, as libpq's `require` means it.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connector that checks the server's certificate against the CA in the file, or against none.
pub fn connector(ca: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let trusted = ca.map(|path| Trusted::read(path, provider.clone())).transpose()?;
    let verifier = Arc::new(Verifier { provider, trusted });
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// What a client of another server than PostgreSQL trusts: the certificates of the file, or those of the image where there is
/// none. Nobody is trusted unseen.
pub fn client(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(path) = ca else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    let trusted = Some(Trusted::read(path, provider.clone())?);
    let verifier = Arc::new(Verifier { provider, trusted });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The certificates of a file.
#[derive(Debug)]
struct Trusted {
    named: Vec<CertificateDer<'static>>,
    chain: Arc<WebPkiServerVerifier>,
}

impl Trusted {
    fn read(path: &Path, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let (mut roots, mut named) = (RootCertStore::empty(), Vec::new());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|_| "the CA's certificate cannot be read")?;
        for certificate in certificates {
            let certificate = certificate.map_err(|_| "the CA's certificate is not PEM")?;
            named.push(certificate.clone());
            roots.add(certificate).map_err(|_| "the CA's certificate is not a certificate of a CA")?;
        }
        if roots.is_empty() {
            return Err("the file of the CA holds no certificate".into());
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Self { named, chain: chain.build().map_err(|error| error.to_string())? })
    }
}

/// Takes a certificate that a CA of the file has signed for the server's name, or one that stands in the file itself: the
/// self-signed certificates that people make for a server are CAs at the same time, which only libpq lets pass. Without a
/// file any certificate will do, but only from who holds its key.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trusted: Option<Trusted>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trusted {
            Some(Trusted { named, chain }) if !named.iter().any(|n| n == certificate) => {
                chain.verify_server_cert(certificate, between, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
