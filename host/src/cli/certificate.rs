//! `postern certificate`: an authority of one's own, and certificates by it, to try TLS out and for the laboratory. For
//! service, use those of an authority that phones and browsers know.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use super::exit;

/// See `postern certificate --help`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes NAME.pem (the certificate) and NAME.key, named after the first NAME, and ca.pem (the authority \
that phones and browsers have to believe) with ca.key. An authority that is there already signs the next ones, too."
)]
pub struct Arguments {
    /// Whom it is for: host names, domains, addresses
    #[arg(required = true)]
    names: Vec<String>,
    /// The folder for the files
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

/// Writes the files.
pub fn certificate(arguments: &Arguments) -> u8 {
    match write(arguments) {
        Ok(()) => {
            let (out, name) = (arguments.out.display(), &arguments.names[0]);
            println!(
                "wrote {out}/{name}.pem and {out}/{name}.key; whoever connects has to believe {out}/ca.pem"
            );
            exit::OK
        }
        Err(words) => {
            eprintln!("no certificate: {words}\n  name a folder this user may write with --out");
            exit::OS
        }
    }
}

fn write(arguments: &Arguments) -> Result<(), String> {
    let out = &arguments.out;
    fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let authority = authority(out)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
    let params = params(&arguments.names)?;
    let certificate = params.signed_by(&key, &authority).map_err(|error| error.to_string())?;
    let name = &arguments.names[0];
    write_file(&out.join(format!("{name}.key")), &key.serialize_pem())?;
    write_file(&out.join(format!("{name}.pem")), &certificate.pem())
}

/// For a proxy, which is server and client.
fn params(names: &[String]) -> Result<CertificateParams, String> {
    let mut params = dated(CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?);
    params.distinguished_name.push(DnType::CommonName, names[0].as_str());
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The authority of this folder; made when there is none.
fn authority(out: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let mut params = dated(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, "Postern trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let kept = out.join("ca.key");
    let key = match fs::read_to_string(&kept) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| format!("{}: {error}", kept.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
            write_file(&kept, &key.serialize_pem())?;
            let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
            write_file(&out.join("ca.pem"), &certificate.pem())?;
            key
        }
        Err(error) => return Err(format!("{}: {error}", kept.display())),
    };
    Ok(Issuer::new(params, key))
}

/// From last year's beginning to the end of the next: browsers don't believe what lasts longer.
fn dated(mut params: CertificateParams) -> CertificateParams {
    const YEAR: u64 = 31_556_952;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let year = 1970 + (since.as_secs() / YEAR) as i32;
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 2, 1, 1);
    params
}

/// Only for this user's eyes: half of them are keys.
fn write_file(path: &Path, text: &str) -> Result<(), String> {
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{}: {error}", path.display()))
}
