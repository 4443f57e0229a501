//! Topics of AWS SNS: its API of forms and XML.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::attributes;
use super::driver::{Outbound, Topic, Unsent};
use super::sqs::{check_size, repeated, short, unsent};
use crate::ext::aws_sigv4::{AwsClient, element};
use crate::runtime::failure::{Failure, Kind};

/// The largest message with its attributes.
const MAX_BYTES: usize = 256 << 10;

/// A topic.
#[derive(Debug)]
pub(super) struct Sns {
    pub(super) client: AwsClient,
    /// `arn:aws:sns:eu-west-1:1:orders`
    pub(super) arn: String,
}

#[async_trait]
impl Topic for Sns {
    async fn publish(&self, message: Outbound, deadline: Instant) -> Result<(), Unsent> {
        let _text = message.charge(2)?;
        let (text, attributes) = attributes::written(&message.body, &message.metadata);
        check_size(&text, &attributes, MAX_BYTES)?;
        // Escapes are up to six times as long.
        let _sent = message.charge(8)?;
        let form = self.form(&text, &attributes, &message.metadata);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let response = repeated(&self.client, &headers, Bytes::from(form), deadline).await?;
        let xml = String::from_utf8_lossy(&response.body);
        let code = element(&xml, "Code");
        if !response.status.is_success() {
            let text = format!("pubsub: {} {}", response.status.as_u16(), short(code));
            return Err(unsent(response.status, Failure::new(Kind::Status, text)));
        }
        if code.is_some() {
            let text = format!("pubsub: the topic rejected the message: {}", short(code));
            return Err(Failure::new(Kind::Status, text).into());
        }
        if element(&xml, "MessageId").is_none() {
            let text = "pubsub: the topic has not confirmed the message";
            return Err(Unsent::unknown(Failure::new(Kind::Status, text)));
        }
        Ok(())
    }
}

impl Sns {
    fn form(
        &self,
        text: &str,
        attributes: &[(String, String)],
        metadata: &[(String, String)],
    ) -> String {
        const ENTRY: &str = "PublishBatchRequestEntries.member.1";
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", "PublishBatch");
        form.append_pair("Version", "2010-03-31");
        form.append_pair("TopicArn", &self.arn);
        form.append_pair(&format!("{ENTRY}.Id"), "0");
        form.append_pair(&format!("{ENTRY}.Message"), text);
        for (index, (name, value)) in attributes.iter().enumerate() {
            let entry = format!("{ENTRY}.MessageAttributes.entry.{}", index + 1);
            form.append_pair(&format!("{entry}.Name"), name);
            form.append_pair(&format!("{entry}.Value.DataType"), "String");
            form.append_pair(&format!("{entry}.Value.StringValue"), value);
        }
        for (header, field) in [
            ("DeduplicationId", "MessageDeduplicationId"),
            ("MessageGroupId", "MessageGroupId"),
        ] {
            let mut pairs = metadata.iter();
            if let Some((_, value)) = pairs.find(|(name, _)| name.eq_ignore_ascii_case(header)) {
                form.append_pair(&format!("{ENTRY}.{field}"), value);
            }
        }
        form.finish()
    }
}
