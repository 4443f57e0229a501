//! A real RabbitMQ on its own ports, and a client of it.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use amqprs::BasicProperties;
use amqprs::channel::{
    BasicAckArguments, BasicGetArguments, BasicPublishArguments, Channel, ExchangeDeclareArguments,
    QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{FieldTable, FieldValue};
use tokio::runtime::Runtime;

use super::{eventually, ports};

/// The script of Debian's package without the wrapper that changes the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const START: Duration = Duration::from_secs(120);

/// A started broker; it is killed when this value is dropped.
pub struct Rabbit {
    port: u16,
    distribution: u16,
    mapper: u16,
    processes: Mutex<Vec<Child>>,
    folder: tempfile::TempDir,
}

impl Rabbit {
    /// `None`, with a note, if RabbitMQ is not installed. On a build machine (`CI=true`) this is an error.
    pub fn start() -> Option<Rabbit> {
        Rabbit::start_with("")
    }

    /// The same with lines of `rabbitmq.conf`.
    pub fn start_with(config: &str) -> Option<Rabbit> {
        if !Path::new(SERVER).exists() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "{SERVER} is missing"
            );
            eprintln!("skipped: {SERVER} is missing");
            return None;
        }
        let rabbit = Rabbit {
            port: ports::free(),
            distribution: ports::free(),
            mapper: ports::free(),
            processes: Mutex::default(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(rabbit.path("rabbitmq.conf"), config).unwrap();
        rabbit.begin();
        Some(rabbit)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address with the user that every broker has.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}?heartbeat=60", self.port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the broker, for the first time or again, with the data that it had.
    pub fn begin(&self) {
        let mut mapper = Command::new("epmd");
        mapper.args(["-port", &self.mapper.to_string()]);
        let mut server = Command::new(SERVER);
        server
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", self.path("data"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_PID_FILE", self.path("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("plugins"))
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1");
        let started = [mapper, server].map(|mut command| {
            command
                .env("HOME", self.folder.path())
                .env("ERL_EPMD_PORT", self.mapper.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // The script starts processes that end with it.
                .process_group(0)
                .spawn()
                .unwrap()
        });
        self.processes.lock().unwrap().extend(started);
        eventually("RabbitMQ answers", START, || self.answers());
    }

    /// Whether it answers a wrong header with the right one (AMQP 0-9-1, 4.2.2).
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            super::pause(Duration::from_millis(50));
            return false;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut header = [0; 4];
        stream.write_all(b"AMQP\x09\x09\x09\x09").is_ok()
            && std::io::Read::read_exact(&mut stream, &mut header).is_ok()
            && header == *b"AMQP"
    }

    /// Kills the broker; its port refuses connections afterwards.
    pub fn end(&self) {
        for mut process in self.processes.lock().unwrap().drain(..) {
            let group = format!("-{}", process.id());
            let _ = Command::new("kill")
                .args(["-s", "KILL", "--", &group])
                .status();
            let _ = process.wait();
        }
        eventually("the port is closed", START, || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err()
        });
    }

    /// Sends a signal to the broker: `STOP` freezes it, `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        for process in &*self.processes.lock().unwrap() {
            let group = format!("-{}", process.id());
            let sent = Command::new("kill")
                .args(["-s", name, "--", &group])
                .status();
            assert!(sent.unwrap().success());
        }
    }

    pub fn client(&self) -> RabbitClient {
        let runtime = Runtime::new().unwrap();
        let (connection, channel) = runtime.block_on(async {
            let arguments = OpenConnectionArguments::new("127.0.0.1", self.port, "guest", "guest");
            let connection = Connection::open(&arguments).await.unwrap();
            let channel = connection.open_channel(None).await.unwrap();
            (connection, channel)
        });
        RabbitClient {
            runtime,
            channel,
            connection: Some(connection),
        }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection of the test's own.
pub struct RabbitClient {
    runtime: Runtime,
    channel: Channel,
    connection: Option<Connection>,
}

impl Drop for RabbitClient {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let channel = self.channel.clone();
            self.runtime.block_on(async {
                let _ = channel.close().await;
                let _ = connection.close().await;
            });
        }
    }
}

/// A message with its routing key.
pub struct Got {
    pub key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl RabbitClient {
    /// Declares a queue with these arguments and binds it.
    pub fn queue(&self, name: &str, exchange: &str, key: &str, arguments: &[(&str, &str)]) {
        let mut table = FieldTable::new();
        for (name, value) in arguments {
            table.insert((*name).try_into().unwrap(), FieldValue::from(*value));
        }
        self.runtime.block_on(async {
            let mut declare = QueueDeclareArguments::new(name);
            declare.arguments(table);
            self.channel.queue_declare(declare).await.unwrap();
            let bind = QueueBindArguments::new(name, exchange, key);
            self.channel.queue_bind(bind).await.unwrap();
        });
    }

    /// Declares a quorum queue that gives up a message after `limit` more deliveries, and moves it to the exchange `dead`.
    pub fn quorum(&self, name: &str, dead: &str, limit: i32) {
        let mut table = FieldTable::new();
        let mut set = |name: &str, value: FieldValue| {
            table.insert(name.try_into().unwrap(), value);
        };
        set("x-queue-type", FieldValue::from("quorum"));
        set("x-dead-letter-exchange", FieldValue::from(dead));
        set("x-delivery-limit", FieldValue::I(limit));
        let mut declare = QueueDeclareArguments::durable_client_named(name);
        declare.arguments(table);
        let declared = self.channel.queue_declare(declare);
        self.runtime.block_on(declared).unwrap();
    }

    pub fn exchange(&self, name: &str) {
        let declare = ExchangeDeclareArguments::new(name, "topic");
        let declared = self.channel.exchange_declare(declare);
        self.runtime.block_on(declared).unwrap();
    }

    /// Sends a message to a queue by the default exchange.
    pub fn publish(&self, queue: &str, body: &[u8]) {
        let mut properties = BasicProperties::default();
        properties.with_content_type("text/x-test");
        let arguments = BasicPublishArguments::new("", queue);
        let sent = self
            .channel
            .basic_publish(properties, body.to_vec(), arguments);
        self.runtime.block_on(sent).unwrap();
        // The answer to this comes after the message.
        self.ready(queue);
    }

    /// The number of messages that wait in a queue.
    pub fn ready(&self, queue: &str) -> u32 {
        let mut declare = QueueDeclareArguments::new(queue);
        declare.passive(true);
        let declared = self.channel.queue_declare(declare);
        let (_, count, _) = self.runtime.block_on(declared).unwrap().unwrap();
        count
    }

    /// Takes a message.
    pub fn get(&self, queue: &str) -> Option<Got> {
        self.runtime.block_on(async {
            let got = self.channel.basic_get(BasicGetArguments::new(queue)).await;
            let (got, properties, body) = got.unwrap()?;
            let ack = BasicAckArguments::new(got.delivery_tag(), false);
            self.channel.basic_ack(ack).await.unwrap();
            Some(Got {
                key: got.routing_key().clone(),
                properties,
                body,
            })
        })
    }
}
