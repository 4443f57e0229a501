//! The metrics of certificates and of their OCSP responses.

use prometheus::GaugeVec;

use super::registration::Registration;

/// When they end, in seconds since 1970.
#[derive(Debug)]
pub(crate) struct CertificateMetrics {
    expiry: GaugeVec,
    staples: GaugeVec,
}

impl CertificateMetrics {
    pub(super) fn new(registration: &Registration<'_>) -> CertificateMetrics {
        CertificateMetrics {
            expiry: registration.gauges(
                "portcullis_certificate_expiry_timestamp_seconds",
                "When a certificate in use expires, by its use.",
                &["use", "file", "subject", "serial"],
            ),
            staples: registration.gauges(
                "portcullis_ocsp_response_expiry_timestamp_seconds",
                "When the OCSP response of a file is no longer stapled; 0 if it is not stapled now.",
                &["file"],
            ),
        }
    }

    /// Sets the metrics of certificates: labels (`use`, `file`, `subject`, `serial`) and seconds since the Unix
    /// epoch.
    pub(crate) fn set<'c>(&self, all: impl Iterator<Item = ([&'c str; 4], i64)>) {
        self.expiry.reset();
        for (labels, expiry) in all {
            let series = self.expiry.with_label_values(&labels);
            series.set(expiry as f64);
        }
    }

    /// Sets the metrics of OCSP responses, by their files.
    pub(crate) fn set_staples<'c>(&self, all: impl Iterator<Item = (&'c str, f64)>) {
        self.staples.reset();
        for (file, end) in all {
            self.staples.with_label_values(&[file]).set(end);
        }
    }
}
