//! minisign keys and signatures.

use std::io::Cursor;

use minisign::KeyPair;
use zeroforge_artifact::Artifact;
use zeroforge_artifact::container::attach_signature;
use zeroforge_runtime::{Model, OpenOptions};

use crate::artifact::sound;
use crate::harness::{Rng, Scratch, attempt, mutate, refuse};

fn pair() -> (KeyPair, String) {
    let pair = KeyPair::generate_unencrypted_keypair().expect("keys");
    let public = pair.pk.to_box().expect("a key").to_string();
    (pair, public)
}

fn sign(pair: &KeyPair) -> String {
    let root = Artifact::parse(sound()).expect("sound").root_hash();
    let signature = minisign::sign(None, &pair.sk, Cursor::new(root), None, None);
    signature.expect("a signature").into_string()
}

#[test]
fn damaged_signatures_and_keys_are_refused() {
    let scratch = Scratch::new();
    let (pair, public) = pair();
    let signature = sign(&pair);
    let open = |signature: &[u8], key: &str| {
        let file = attach_signature(sound(), signature).expect("attached");
        let path = scratch.write("signed.zfa", &file);
        let options = OpenOptions { trusted_keys: vec![key.to_owned()], ..Default::default() };
        move || Model::open(&path, &options).map(drop)
    };
    open(signature.as_bytes(), &public)().expect("a good signature");
    let mut rng = Rng(21);
    for i in 0..300 {
        let damaged = mutate(signature.as_bytes(), &mut rng);
        let found = attempt(&format!("signature, edit {i}"), 4096, open(&damaged, &public));
        // The comments' line endings are outside of what is signed.
        let text = String::from_utf8_lossy(&damaged);
        let same = text.trim_end().lines().skip(1).eq(signature.lines().skip(1));
        assert!(
            found.is_err() || same,
            "signature, edit {i}:\n{}",
            String::from_utf8_lossy(&damaged)
        );
        let damaged = mutate(public.as_bytes(), &mut rng);
        let key = String::from_utf8_lossy(&damaged);
        let _ = attempt(&format!("key, edit {i}"), 4096, open(signature.as_bytes(), &key));
    }
    for cut in 0..signature.len().saturating_sub(2) {
        refuse("a cut signature", 4096, &[], open(&signature.as_bytes()[..cut], &public));
    }
    for cut in 0..public.trim_end().len() {
        refuse("a cut key", 4096, &[], open(signature.as_bytes(), &public[..cut]));
    }
    refuse("no text", 4096, &["no text"], open(&[0xff; 300], &public));
    let (_, other) = self::pair();
    refuse("another key", 4096, &["none of the trusted keys"], open(signature.as_bytes(), &other));
}

#[test]
fn what_is_not_signed_is_refused() {
    let scratch = Scratch::new();
    let (pair, public) = pair();
    let options = OpenOptions { trusted_keys: vec![public], ..Default::default() };
    let path = scratch.write("unsigned.zfa", sound());
    refuse("no signature", 0, &["not signed", "zeroforge sign"], || Model::open(&path, &options));
    // A good signature of another artifact's root.
    let signed = attach_signature(sound(), sign(&pair).as_bytes()).expect("attached");
    let mut other = signed.clone();
    // The last byte of the last section is a weight: the root stays, its hash does not.
    let len = u64::from_le_bytes(signed[16..24].try_into().expect("8 bytes")) as usize;
    other[len - 1] ^= 1;
    let path = scratch.write("other.zfa", &other);
    refuse("a changed weight", 0, &["other.zfa", "corrupt"], || Model::open(&path, &options));
}
