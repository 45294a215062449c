//! A consumer that hands over its messages in batches.
//!
//! rdkafka polls for each message. `rd_kafka_consume_batch_queue` empties a queue by one call, but on the consumer's own
//! queue it would also take the rebalance events, which then nobody answers. So the messages get a queue of their own:
//! [`Inlet::forward`] leads a partition's messages into it before the partition is assigned, which librdkafka respects
//! when fetching starts, and everything else still arrives by polling the consumer.
//!
//! Beside `blas` the only file with `unsafe` in it. A message lives until the next call that takes some, and neither it nor
//! the queue outlives the consumer.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_header_get_all, rd_kafka_message_destroy, rd_kafka_message_headers,
    rd_kafka_message_timestamp, rd_kafka_queue_destroy, rd_kafka_queue_forward, rd_kafka_queue_get_partition,
    rd_kafka_queue_new, rd_kafka_queue_t, rd_kafka_timestamp_type_t, rd_kafka_topic_name,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaMessage, RDKafkaRespErr};

/// How long news of the group may wait while no message comes. A wait for a message can't be ended by them, and
/// looking a hundred times a second costs a thousandth of a core.
const WAIT_SLICE: Duration = Duration::from_millis(10);

/// A consumer and the queue that its messages come by.
pub struct BatchConsumer<C: ConsumerContext + 'static> {
    // Dropped in this order. A message or a queue that is still there keeps its consumer from ending, for ever.
    /// The messages that were handed over last.
    taken: Vec<Owned>,
    queue: Arc<Queue>,
    consumer: BaseConsumer<C>,
}

impl<C: ConsumerContext + 'static> BatchConsumer<C> {
    /// Makes a consumer with these settings, and opens `inlet` to its queue. The context's rebalance callback has to
    /// call [`Inlet::forward`] before it assigns.
    ///
    /// Errors: the settings are refused, or the inlet leads to another consumer already.
    pub fn new(settings: &ClientConfig, context: C, inlet: &Inlet) -> KafkaResult<Self> {
        let consumer: BaseConsumer<C> = settings.create_with_context(context)?;
        let queue = Arc::new(Queue::new(&consumer));
        if inlet.0.set((address(&consumer), Arc::downgrade(&queue))).is_err() {
            return Err(KafkaError::ClientCreation("an inlet leads to one consumer only".into()));
        }
        Ok(Self { taken: Vec::new(), queue, consumer })
    }

    /// The consumer, for everything but its messages.
    pub fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }

    /// Reads these partitions, as no member of a group.
    ///
    /// Errors: those of [`Consumer::assign`].
    pub fn assign(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        self.queue.forward(&self.consumer, partitions);
        self.consumer.assign(partitions)
    }

    /// Serves the consumer's callbacks, then hands at most `max` messages to `each`: what is there, or the first ones
    /// that come within `timeout`. Returns how many there were. No callback runs between two messages. They stay at hand,
    /// see [`BatchConsumer::messages`], until the next call.
    ///
    /// Errors: what the consumer or a partition reports; messages that came with it have been handed over.
    pub fn take(&mut self, max: usize, timeout: Duration, mut each: impl FnMut(&RawMessage<'_>)) -> KafkaResult<usize> {
        let began = Instant::now();
        self.taken.clear();
        loop {
            // Only a partition that nobody forwarded gives messages here; they don't stay.
            if let Some(polled) = self.consumer.poll(Duration::ZERO) {
                each(&RawMessage::of(&polled?));
                return Ok(1);
            }
            let left = timeout.saturating_sub(began.elapsed());
            self.queue.take(&mut self.taken, max, left.min(WAIT_SLICE));
            if !self.taken.is_empty() || left.is_zero() {
                return self.hand_over(&mut each);
            }
        }
    }

    /// The messages that were handed over last.
    pub fn messages(&self) -> impl Iterator<Item = RawMessage<'_>> {
        self.taken
            .iter()
            .map(Owned::borrow)
            .filter(|message| message.0.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
    }

    fn hand_over(&self, each: &mut impl FnMut(&RawMessage<'_>)) -> KafkaResult<usize> {
        let (mut n, mut failure) = (0, None);
        for owned in &self.taken {
            let message = owned.borrow();
            match message.0.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    n += 1;
                    each(&message);
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {}
                code => failure = Some(KafkaError::MessageConsumption(code.into())),
            }
        }
        failure.map_or(Ok(n), Err)
    }
}

/// The way of a consumer's messages into its queue, for the consumer's context to hold.
#[derive(Clone, Debug, Default)]
pub struct Inlet(Arc<OnceLock<(usize, Weak<Queue>)>>);

impl Inlet {
    /// Leads the messages of these partitions into the queue of `consumer`. Must be called before they are assigned,
    /// every time: the end of an assignment undoes it.
    pub fn forward<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, partitions: &TopicPartitionList) {
        let Some((owner, queue)) = self.0.get() else { return };
        // A handle that outlived its consumer by a moment would be fatal: it is made only while that one is borrowed.
        assert_eq!(*owner, address(consumer), "an inlet serves the consumer it was made for");
        // While the consumer ends its queue is gone, and so is the need.
        if let Some(queue) = queue.upgrade() {
            queue.forward(consumer, partitions);
        }
    }
}

fn address<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> usize {
    consumer.client().native_ptr().addr()
}

/// A queue of our own on a consumer's client.
#[derive(Debug)]
struct Queue(NonNull<rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread, and from several at once.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        // SAFETY: the consumer is borrowed, so its client is alive.
        let queue = unsafe { rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self(NonNull::new(queue).expect("librdkafka ends the process when it has no memory"))
    }

    /// The consumer has to be ours.
    fn forward<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, partitions: &TopicPartitionList) {
        let client = consumer.client().native_ptr();
        for element in partitions.elements() {
            let topic = CString::new(element.topic()).expect("the name of a topic comes from a C string");
            // SAFETY: the consumer is borrowed, so its client is alive. A partition's queue counts its handles, and its
            // forwarding counts as one of our queue's, so that either handle may go at any time.
            unsafe {
                let partition = rd_kafka_queue_get_partition(client, topic.as_ptr(), element.partition());
                if !partition.is_null() {
                    rd_kafka_queue_forward(partition, self.0.as_ptr());
                    rd_kafka_queue_destroy(partition);
                }
            }
        }
    }

    /// Moves at most `max` messages into `taken`, waiting up to `wait` for the first.
    fn take(&self, taken: &mut Vec<Owned>, max: usize, wait: Duration) {
        self.consume(taken, max, 0);
        if taken.is_empty() && !wait.is_zero() && max > 0 {
            // With a time to wait librdkafka waits until the batch is full: it is told to take one.
            self.consume(taken, 1, c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX).max(1));
            if !taken.is_empty() {
                self.consume(taken, max - 1, 0);
            }
        }
    }

    fn consume(&self, taken: &mut Vec<Owned>, n: usize, wait_ms: c_int) {
        taken.reserve(n);
        let room = taken.spare_capacity_mut().as_mut_ptr().cast::<*mut RDKafkaMessage>();
        // SAFETY: there is room for `n` pointers, librdkafka writes as many as it returns, none of them null, and gives
        // each message to us; `Owned` is such a pointer. -1, for a client that isn't a consumer, leaves the list as is.
        unsafe {
            let n_taken = rd_kafka_consume_batch_queue(self.0.as_ptr(), wait_ms, room, n);
            taken.set_len(taken.len() + usize::try_from(n_taken).unwrap_or(0));
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and goes with us. The client is alive: `BatchConsumer` drops its queue first, and
        // an upgraded handle lives only while a consumer is borrowed.
        unsafe { rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// A message that is ours to free. It lies in a `BatchConsumer`, before the consumer in the order of dropping.
#[repr(transparent)]
struct Owned(NonNull<RDKafkaMessage>);

// SAFETY: a message belongs to whoever took it; no thread of librdkafka looks at it any more.
unsafe impl Send for Owned {}

impl Owned {
    fn borrow(&self) -> RawMessage<'_> {
        // SAFETY: the message is ours, and alive until we are dropped.
        RawMessage(unsafe { self.0.as_ref() })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the message is ours, is freed once, and its client is alive.
        unsafe { rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// A message as librdkafka holds it, borrowed.
pub struct RawMessage<'a>(&'a RDKafkaMessage);

impl<'a> RawMessage<'a> {
    fn of(message: &'a BorrowedMessage<'_>) -> Self {
        // SAFETY: rdkafka keeps the message alive as long as what it was borrowed by.
        Self(unsafe { &*message.ptr() })
    }

    /// What all messages of its topic have in common while they are held, and those of other topics have not: its name
    /// need be asked for once only.
    pub fn topic_handle(&self) -> usize {
        self.0.rkt.addr()
    }

    /// The topic it stands in.
    pub fn topic(&self) -> &'a str {
        // SAFETY: a message that is no error keeps its topic alive, whose name ends with a zero.
        let name = unsafe { CStr::from_ptr(rd_kafka_topic_name(self.0.rkt)) };
        name.to_str().expect("Kafka allows letters, digits, dots, dashes and underscores")
    }

    /// The partition it stands in.
    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Its key.
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the message is alive for 'a, and its key with it.
        unsafe { slice(self.0.key, self.0.key_len) }
    }

    /// Its payload.
    pub fn payload(&self) -> Option<&'a [u8]> {
        // SAFETY: the message is alive for 'a, and its payload with it.
        unsafe { slice(self.0.payload, self.0.len) }
    }

    /// Its timestamp, milliseconds since the epoch.
    pub fn time_ms(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and `kind` is written once.
        let time_ms = unsafe { rd_kafka_message_timestamp(self.0, &raw mut kind) };
        let is_there = kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time_ms != -1;
        is_there.then_some(time_ms)
    }

    /// Calls `visit` with each header in order. Bytes of a name that are no UTF-8 are replaced. librdkafka parses and
    /// allocates for it, even for a message without headers.
    pub fn each_header(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive and used by this thread alone; headers parsed now stay with it.
        if unsafe { rd_kafka_message_headers(self.0, &raw mut headers) } != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for i in 0.. {
            let (mut name, mut value, mut n_bytes) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers are alive with their message, and librdkafka refuses an index behind the last one.
            let found = unsafe { rd_kafka_header_get_all(headers, i, &raw mut name, &raw mut value, &raw mut n_bytes) };
            if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: a name ends with a zero, and both live as long as the headers.
            let (name, value) = unsafe { (CStr::from_ptr(name), slice(value, n_bytes)) };
            visit(&name.to_string_lossy(), value);
        }
    }
}

/// What a pointer and a length of librdkafka mean; null is nothing.
///
/// # Safety
///
/// `start` is null or leads to so many bytes, which stay as they are for 'a.
unsafe fn slice<'a>(start: *const c_void, n_bytes: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), n_bytes) })
}
