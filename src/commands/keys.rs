//! `zeroforge keygen`, `sign` and `verify-signature`: minisign keys over an artifact's root hash.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use minisign::{KeyPair, SecretKeyBox};
use serde_json::json;
use zeroforge_artifact::Artifact;
use zeroforge_artifact::container::{attach_signature, write_atomically};
use zeroforge_runtime::{Model, OpenOptions};

use crate::args::{KeygenArgs, SignArgs, VerifySignatureArgs};
use crate::exit::Exit;
use crate::output::Output;

pub(crate) fn keygen(args: &KeygenArgs, output: &Output) -> Result<Exit> {
    for path in [&args.secret, &args.public] {
        if path.exists() {
            bail!("`{}` exists; remove it or choose another name", path.display());
        }
    }
    let pair = KeyPair::generate_unencrypted_keypair()?;
    let secret = pair.sk.to_box(Some("zeroforge secret key"))?.to_string();
    let public = pair.pk.to_box()?.to_string();
    write_secret(&args.secret, &secret)?;
    write_atomically(&args.public, public.as_bytes())?;
    output.result(
        &format!(
            "secret key in {}, public key in {}",
            args.secret.display(),
            args.public.display()
        ),
        || json!({"event": "keys", "secret": args.secret, "public": args.public}),
    );
    Ok(Exit::Success)
}

/// Only the owner may read a secret key, from the first byte on.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating `{}`", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing `{}`", path.display()))
}

/// The signature block for a root hash by the key in a file.
pub(crate) fn signature_of(root: [u8; 32], key: &Path) -> Result<Vec<u8>> {
    let text =
        std::fs::read_to_string(key).with_context(|| format!("reading key `{}`", key.display()))?;
    let secret = SecretKeyBox::from_string(&text)
        .and_then(|b| b.into_unencrypted_secret_key())
        .with_context(|| format!("`{}` is no unencrypted minisign secret key", key.display()))?;
    let signature = minisign::sign(
        None,
        &secret,
        Cursor::new(root),
        Some("zeroforge artifact"),
        Some("signature of a zeroforge artifact's root hash"),
    )?;
    Ok(signature.into_string().into_bytes())
}

pub(crate) fn sign(args: &SignArgs, output: &Output) -> Result<Exit> {
    let bytes = std::fs::read(&args.artifact)
        .with_context(|| format!("reading `{}`", args.artifact.display()))?;
    let artifact = Artifact::parse(&bytes[..])?;
    artifact.verify_all()?;
    let signature = signature_of(artifact.root_hash(), &args.key)?;
    let signed = attach_signature(&bytes, &signature)?;
    write_atomically(&args.artifact, &signed)?;
    output.result(
        &format!("signed {}", args.artifact.display()),
        || json!({"event": "signed", "artifact": args.artifact}),
    );
    Ok(Exit::Success)
}

/// Public keys from files.
pub(crate) fn read_public(paths: &[PathBuf]) -> Result<Vec<String>> {
    paths
        .iter()
        .map(|p| {
            std::fs::read_to_string(p).with_context(|| format!("reading key `{}`", p.display()))
        })
        .collect()
}

pub(crate) fn verify(args: &VerifySignatureArgs, output: &Output) -> Result<Exit> {
    let trusted_keys = read_public(std::slice::from_ref(&args.key))?;
    Model::open(&args.artifact, &OpenOptions { verify_all: true, trusted_keys })?;
    output.result(
        &format!("{}: signature and all hashes are good", args.artifact.display()),
        || json!({"event": "verified", "artifact": args.artifact}),
    );
    Ok(Exit::Success)
}
