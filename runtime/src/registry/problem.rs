//! Why an artifact can't be had, and what to do about it.

use std::error::Error as StdError;

use millrace_engine::ports::Error;
use oci_client::Reference;
use oci_client::errors::{OciDistributionError, OciErrorCode};

use super::Credentials;
use crate::tls::{Refused, refused};

pub(super) fn fatal(why: String) -> Error {
    Error::Fatal(why)
}

/// Of what a registry answers, or does not, when it was given these credentials.
pub(super) fn of_registry(image: &Reference, credentials: &Credentials, error: OciDistributionError) -> Error {
    let registry = image.resolve_registry();
    // It is transparent, and hands over the causes of what it wraps, without that.
    let cause: &(dyn StdError + 'static) = match &error {
        OciDistributionError::RequestError(request) => request,
        other => other,
    };
    if let Some(distrusted) = distrusted(&format!("the registry {registry}"), cause) {
        return distrusted;
    }
    match class(&error) {
        Class::Away => Error::Retry(format!("the registry {registry} can't be asked for {image}: {}", chain(&error))),
        Class::Denied => fatal(format!(
            "the registry {registry} denies {image} ({}); it was given {}. {}",
            chain(&error),
            credentials.brought,
            credentials.remedy
        )),
        Class::Absent => fatal(format!(
            "the registry {registry} has no artifact {image}: see whether repository and digest are right (`oras discover`, \
             `oras repo tags`), and whether it was deleted there"
        )),
        Class::Otherwise => match &error {
            OciDistributionError::DigestError(why) => fatal(format!(
                "what the registry {registry} has sent for {image} is something else: {why}; push the artifact again, or look \
                 for who stands between"
            )),
            _ => fatal(format!("fetch {image}: {}", chain(&error))),
        },
    }
}

enum Class {
    /// It may be there a moment later.
    Away,
    Denied,
    Absent,
    Otherwise,
}

fn class(error: &OciDistributionError) -> Class {
    match error {
        OciDistributionError::RequestError(_) => Class::Away,
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
            Class::Denied
        }
        OciDistributionError::ImageManifestNotFoundError(_) => Class::Absent,
        OciDistributionError::ServerError { code, .. } => match code {
            401 | 403 => Class::Denied,
            404 => Class::Absent,
            429 | 500.. => Class::Away,
            _ => Class::Otherwise,
        },
        OciDistributionError::RegistryError { envelope, .. } => {
            match envelope.errors.first().map(|error| &error.code) {
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Class::Denied,
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::ManifestBlobUnknown,
                ) => Class::Absent,
                Some(OciErrorCode::Toomanyrequests) => Class::Away,
                _ => Class::Otherwise,
            }
        }
        _ => Class::Otherwise,
    }
}

/// Of a connection that fails because nobody here knows who vouches for the other side: another attempt would not help.
pub(super) fn distrusted(place: &str, error: &(dyn StdError + 'static)) -> Option<Error> {
    let known = "it is to name a file with the certificates (PEM) of all authorities that are trusted, in place of the \
                 system's";
    if let Some(Refused::Certificate(why)) = refused(error) {
        return Some(fatal(format!(
            "the certificate of {place} is not trusted: {why}; if an authority of your own has signed it, set \
             SSL_CERT_FILE: {known}"
        )));
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_builder) {
            let why = chain(error);
            return Some(fatal(format!("a connection to {place} can't be secured: {why}; see SSL_CERT_FILE: {known}")));
        }
        cause = error.source();
    }
    None
}

/// The message with its causes: of a connection that fails only they say why.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
