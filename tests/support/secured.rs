//! A broker with TLS, every mechanism and ACLs, the certificates for it, and who may do what on it.
//!
//! Its plain listener is the administrator's: what comes by it is a super user. Certificates are made by `openssl`.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::OnceLock;

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Broker, Extra, Launch, free_port};

/// Who has a password, which is the name with [`Secured::MARKER`].
const USERS: [&str; 3] = ["pumps", "fans", "nobody"];
/// How long the broker may take to change a right, ms.
const ANSWER_MS: i32 = 20_000;

/// Keys of `[kafka]` and their values.
pub type Keys = Vec<(&'static str, String)>;

/// A right in the words of `kafka-acls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The operation.
    pub operation: String,
    /// Kind of resource: `topic`, `group` or `transactional-id`.
    pub kind: String,
    /// Name of the resource, or its beginning.
    pub name: String,
    /// Whether the name is a beginning.
    pub is_prefix: bool,
}

impl Acl {
    /// Reads the options of a command: `--operation Read --topic features`.
    pub fn parse(options: &str) -> Self {
        let words: Vec<&str> = options.split_whitespace().collect();
        let (operation, kind, name, is_prefix) = match words[..] {
            ["--operation", operation, kind, name] => (operation, kind, name, false),
            ["--operation", operation, kind, name, "--resource-pattern-type", "prefixed"] => {
                (operation, kind, name, true)
            }
            _ => panic!("no options of a right: {options}"),
        };
        let kind = kind.trim_start_matches('-').to_owned();
        Self { operation: operation.to_owned(), kind, name: name.to_owned(), is_prefix }
    }

    /// The options of the command that grants it.
    pub fn options(&self) -> String {
        let pattern = if self.is_prefix { " --resource-pattern-type prefixed" } else { "" };
        format!("--operation {} --{} {}{pattern}", self.operation, self.kind, self.name)
    }
}

/// What docs/SECURITY.md grants: keys of the configuration, their values there, and the rights that each needs.
pub fn documented_rights() -> Vec<(String, String, Vec<Acl>)> {
    let text = super::shipped_text("docs/SECURITY.md");
    let block = text.split("$ alias grant=").nth(1).and_then(|rest| rest.split("```").next()).expect("the page grants");
    let mut found: Vec<(String, String, Vec<Acl>)> = Vec::new();
    for line in block.lines().skip(1).filter(|line| !line.is_empty()) {
        if let Some((key, value)) = line.strip_prefix("# ").and_then(|key| key.split_once(" = ")) {
            found.push((key.to_owned(), value.trim_matches('"').to_owned(), Vec::new()));
            continue;
        }
        let options = line.strip_prefix("$ grant ").unwrap_or_else(|| panic!("neither a key nor a grant: {line}"));
        found.last_mut().expect("a key stands above").2.push(Acl::parse(options));
    }
    found
}

/// A secured broker.
#[derive(Debug)]
pub struct Secured {
    /// The broker, to be used as its administrator.
    pub broker: Broker,
    sasl_port: u16,
    mutual_port: u16,
}

impl Secured {
    /// The end of every secret.
    pub const MARKER: &str = "-marker";

    /// The one that this test binary's tests share, or nothing, and then the test's skip has been reported.
    pub fn get() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Secured>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start() -> Option<Self> {
        let [sasl_port, mutual_port] = [free_port(), free_port()];
        let plain: String = USERS.iter().map(|user| format!(" user_{user}=\"{user}{}\"", Self::MARKER)).collect();
        let module = "org.apache.kafka.common.security";
        let listener = "listener.name.secure";
        let properties = format!(
            "{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
             {listener}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required{plain};\n\
             {listener}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             {listener}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             {listener}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";\n\
             ssl.keystore.type=PEM\nssl.keystore.location={{dir}}/server.both.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={{dir}}/ca.pem\n\
             listener.name.mutual.ssl.client.auth=required\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS\n"
        );
        let scram = |user: &&str| {
            let of = |bits| format!("SCRAM-SHA-{bits}=[name={user},password={user}{},iterations=4096]", Self::MARKER);
            [256, 512].map(of)
        };
        let format = USERS.iter().flat_map(scram).flat_map(|one| ["--add-scram".to_owned(), one]).collect();
        let listeners = vec![("SECURE", sasl_port, "SASL_SSL"), ("MUTUAL", mutual_port, "SSL")];
        let broker = Broker::own_with(&Extra {
            listeners,
            properties,
            format,
            prepare: Some(certificates),
            ..Extra::default()
        })?;
        Some(Self { broker, sasl_port, mutual_port })
    }

    /// Bootstrap address that wants SASL over TLS.
    pub fn sasl(&self) -> String {
        format!("localhost:{}", self.sasl_port)
    }

    /// A file beside the certificates: `ca.pem`, `other.pem` of an authority that signed nothing, `client.pem` (subject
    /// `CN=client`), `client.key` (encrypted by what is in `phrase`), or one that a test makes.
    pub fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.broker.dir().expect("the broker is ours").join(name)
    }

    /// Makes such a file.
    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("the temporary folder can be written");
        self.file(name)
    }

    /// The keys of one of the users by a mechanism with a password.
    pub fn by_password(&self, user: &str, mechanism: &str) -> Keys {
        let password = self.write(&format!("password-{user}"), &format!("{user}{}\n", Self::MARKER));
        let mut keys = self.over_tls("sasl_ssl", self.sasl());
        keys.push(("security.sasl_mechanism", mechanism.to_owned()));
        keys.push(("security.username", user.to_owned()));
        keys.push(("security.password_file", password));
        keys
    }

    /// The keys of a token that `more` says how to get.
    pub fn by_token(&self, more: Keys) -> Keys {
        let mut keys = self.over_tls("sasl_ssl", self.sasl());
        keys.push(("security.sasl_mechanism", "OAUTHBEARER".to_owned()));
        keys.extend(more);
        keys
    }

    /// The keys of `CN=client`.
    pub fn by_certificate(&self) -> Keys {
        let mut keys = self.over_tls("ssl", format!("localhost:{}", self.mutual_port));
        keys.push(("security.certificate_file", self.file("client.pem")));
        keys.push(("security.key_file", self.file("client.key")));
        keys.push(("security.key_password_file", self.file("phrase")));
        keys
    }

    fn over_tls(&self, protocol: &str, brokers: String) -> Keys {
        vec![
            ("brokers", brokers),
            ("security.protocol", protocol.to_owned()),
            ("security.ca_file", self.file("ca.pem")),
        ]
    }

    /// Gives a principal a right.
    pub fn grant(&self, principal: &str, acl: &Acl) {
        self.change(principal, acl, true);
    }

    /// Takes it away.
    pub fn revoke(&self, principal: &str, acl: &Acl) {
        self.change(principal, acl, false);
    }

    #[allow(unsafe_code, reason = "rdkafka has no call for ACLs")]
    fn change(&self, principal: &str, acl: &Acl, grants: bool) {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.broker.brokers()).create().expect("valid settings");
        let operation = match &*acl.operation {
            "Read" => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ,
            "Write" => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE,
            "Create" => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_CREATE,
            "DescribeConfigs" => sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
            other => panic!("no test grants {other}"),
        };
        let kind = match &*acl.kind {
            "topic" => sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
            "group" => sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP,
            "transactional-id" => sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
            other => panic!("no test grants rights on a {other}"),
        };
        let pattern = if acl.is_prefix {
            sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_PREFIXED
        } else {
            sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL
        };
        let allow = sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW;
        let texts = [&*acl.name, principal, "*"].map(|text| CString::new(text).expect("no zero"));
        let [name, principal, host] = [&texts[0], &texts[1], &texts[2]].map(|text| text.as_ptr());
        let mut why = [0; 256];
        // SAFETY: the client lives to the end of the block, as do the texts; what is made here is freed here, once.
        unsafe {
            let (rk, why, n) = (client.client().native_ptr(), why.as_mut_ptr(), why.len());
            let make = if grants { sys::rd_kafka_AclBinding_new } else { sys::rd_kafka_AclBindingFilter_new };
            let acl = make(kind, name, pattern, principal, host, operation, allow, why, n);
            assert!(!acl.is_null(), "librdkafka refuses the ACL");
            let queue = sys::rd_kafka_queue_new(rk);
            let send = if grants { sys::rd_kafka_CreateAcls } else { sys::rd_kafka_DeleteAcls };
            send(rk, [acl].as_mut_ptr(), 1, ptr::null(), queue);
            let event = sys::rd_kafka_queue_poll(queue, ANSWER_MS);
            assert!(!event.is_null(), "the broker doesn't answer");
            let code = sys::rd_kafka_event_error(event);
            sys::rd_kafka_event_destroy(event);
            sys::rd_kafka_AclBinding_destroy(acl);
            sys::rd_kafka_queue_destroy(queue);
            assert_eq!(code, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        }
    }
}

impl Launch {
    /// The same with these keys of `[kafka]`.
    pub fn kafka(self, keys: &Keys) -> Self {
        keys.iter().fold(self, |launch, (key, value)| launch.set(&format!("kafka.{key}"), value))
    }
}

/// Two authorities, and of the first one a broker's certificate for `localhost` and a client's, whose key is encrypted.
fn certificates(dir: &Path) {
    let run = |args: &str| {
        let done = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().expect("openssl is there");
        assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for name in ["ca", "other"] {
        run(&format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"));
    }
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost").expect("written");
    for name in ["server", "client"] {
        run(&format!("req {key} -subj /CN={name} -keyout {name}.clear -out {name}.csr"));
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        ));
    }
    fs::write(dir.join("phrase"), format!("phrase{}\n", Secured::MARKER)).expect("written");
    run("pkcs8 -topk8 -in client.clear -passout file:phrase -out client.key");
    let both = ["server.clear", "server.pem"].map(|name| fs::read_to_string(dir.join(name)).expect("just made"));
    fs::write(dir.join("server.both.pem"), both.concat()).expect("written");
}
