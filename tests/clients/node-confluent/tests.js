'use strict'

const assert = require('node:assert/strict')
const { randomBytes } = require('node:crypto')
const { test } = require('node:test')
const { KafkaJS, features } = require('@confluentinc/kafka-javascript')
const { bootstrap, unique, until } = require('../chronik.js')

const { CompressionTypes, ErrorCodes, Kafka, PartitionAssigners, logLevel } = KafkaJS

/** Makes clients of one broker; they are disconnected when the test is over. */
class Client {
  constructor(address, name) {
    this.kafka = new Kafka({ kafkaJS: { brokers: [address], logLevel: logLevel.NOTHING } })
    this.address = address
    this.name = name
    this.open = []
  }

  async connected(one) {
    await one.connect()
    this.open.push(one)
    return one
  }

  async admin() {
    this.adminClient ??= await this.connected(this.kafka.admin())
    return this.adminClient
  }

  async create(numPartitions = 1, configs = {}, topic = this.name) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value: String(value) }))
    const admin = await this.admin()
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] }), true)
    const leaders = () => admin.fetchTopicMetadata({ topics: [topic] }).catch(() => [{ partitions: [] }])
    await until('the topic has leaders', async () => (await leaders())[0].partitions.length === numPartitions)
    return topic
  }

  producer(config = {}, native = {}) {
    return this.connected(this.kafka.producer({ kafkaJS: { ...config }, 'linger.ms': 0, ...native }))
  }

  async produce(topic, messages, config = {}, native = {}) {
    const producer = await this.producer(config, native)
    return producer.send({ topic, messages })
  }

  consumer(groupId = unique('group'), config = {}, native = {}) {
    const defaults = { sessionTimeout: 6000, heartbeatInterval: 200, fromBeginning: true, maxWaitTimeInMs: 100 }
    return this.connected(this.kafka.consumer({ kafkaJS: { groupId, ...defaults, ...config }, ...native }))
  }

  /** Reads a topic from its beginning until there are `count` messages. */
  async read(topic, count, config = {}, seek = undefined) {
    const consumer = await this.consumer(undefined, config)
    const found = []
    await consumer.subscribe({ topic })
    await consumer.run({ eachMessage: async ({ partition, message }) => void found.push({ partition, ...message }) })
    if (seek !== undefined) {
      await until('an assignment', () => consumer.assignment().length > 0)
      found.length = 0
      await consumer.seek({ topic, partition: 0, offset: String(seek) })
    }
    await until(`${count} messages read`, () => found.length >= count)
    await this.close(consumer)
    return found
  }

  async close(one) {
    this.open.splice(this.open.indexOf(one), 1)
    await one.disconnect()
  }
}

function withClient(name, body, options = {}) {
  test(name, { timeout: 90_000, ...options }, async () => {
    const client = new Client(await bootstrap(), unique(name))
    try {
      await body(client)
    } finally {
      for (const one of client.open.reverse()) await one.disconnect()
    }
  })
}

const numbered = (first, last) => Array.from({ length: last - first }, (_, i) => ({ value: String(first + i) }))
const values = (messages) => messages.map(({ value }) => value.toString())
const failure = (promise, code) =>
  assert.rejects(promise, (error) => {
    const found = (error.errors ?? error.groups?.map((group) => group.error) ?? [error.cause ?? error]).map((one) => one.code)
    assert.ok(found.includes(code), `expected ${code}, found ${found}: ${error.message}`)
    return true
  })

for (const codec of ['None', 'GZIP', 'SNAPPY', 'LZ4', 'ZSTD']) {
  for (const acks of [0, 1, -1]) {
    const there = codec !== 'ZSTD' || features.includes('zstd')
    const skip = there ? false : 'librdkafka was compiled without zstd here'
    const body = async (client) => {
      const topic = await client.create()
      const messages = numbered(0, 50).map(({ value }) => ({
        value: Buffer.concat([Buffer.from(value + 'abc'.repeat(50)), randomBytes(20)])
      }))
      await client.produce(topic, messages, { acks, compression: CompressionTypes[codec] })
      const found = await client.read(topic, 50)
      assert.deepEqual(found.map(({ value }) => value), messages.map(({ value }) => value))
      assert.deepEqual(found.map(({ offset }) => Number(offset)), [...Array(50).keys()])
    }
    withClient(`compression ${codec} acks ${acks}`, body, { skip })
  }
}

withClient('idempotent', async (client) => {
  const topic = await client.create()
  await client.produce(topic, numbered(0, 200), { idempotent: true }, { 'batch.num.messages': 10 })
  assert.deepEqual(values(await client.read(topic, 200)), values(numbered(0, 200)))
})

withClient('keyed partitioning', async (client) => {
  const topic = await client.create(3)
  await client.produce(topic, numbered(0, 90).map(({ value }, i) => ({ key: `key-${i % 9}`, value })))
  const seen = {}
  for (const { key, value, partition } of await client.read(topic, 90)) (seen[key] ??= []).push([partition, Number(value)])
  assert.equal(Object.keys(seen).length, 9)
  for (const entries of Object.values(seen)) {
    assert.equal(new Set(entries.map(([partition]) => partition)).size, 1, 'a key has one partition')
    assert.deepEqual(entries, [...entries].sort((a, b) => a[1] - b[1]), 'a key keeps its order')
  }
  assert.ok(new Set(Object.values(seen).map(([[partition]]) => partition)).size > 1, 'keys spread over partitions')
})

withClient('headers', async (client) => {
  const topic = await client.create()
  await client.produce(topic, [{ value: 'v', headers: { a: ['1', '2'], empty: '', ünïcode: '☃' } }])
  const [{ headers }] = await client.read(topic, 1)
  assert.deepEqual(headers.a.map(String), ['1', '2'])
  assert.equal(headers.empty.toString(), '')
  assert.equal(headers.ünïcode.toString(), '☃')
})

withClient('null keys and values', async (client) => {
  const topic = await client.create()
  const sent = () => [{ value: null }, { key: 'k', value: null }, { value: 'v' }]
  await client.produce(topic, sent())
  const found = (await client.read(topic, 3)).map(({ key, value }) => [key?.toString() ?? null, value?.toString() ?? null])
  assert.deepEqual(found, sent().map(({ key = null, value }) => [key, value]))
})

withClient('one megabyte records', async (client) => {
  const topic = await client.create(1, { 'max.message.bytes': 4_000_000 })
  const messages = [1, 2, 3].map(() => ({ value: randomBytes(1 << 20) }))
  await client.produce(topic, messages, {}, { 'message.max.bytes': 4_000_000 })
  const found = await client.read(topic, 3, { maxBytesPerPartition: 100_000 })
  assert.ok(found.every(({ value }, i) => value.equals(messages[i].value)))
})

withClient('message too large', async (client) => {
  const topic = await client.create(1, { 'max.message.bytes': 10_000 })
  await failure(client.produce(topic, [{ value: 'x'.repeat(20_000) }]), ErrorCodes.ERR_MSG_SIZE_TOO_LARGE)
  await client.produce(topic, [{ value: 'small enough' }])
})

withClient('seek by timestamp', async (client) => {
  const topic = await client.create()
  const messages = numbered(0, 10).map(({ value }, i) => ({ value, timestamp: String(1_700_000_000_000 + i * 1000) }))
  await client.produce(topic, messages)
  const admin = await client.admin()
  const [{ offset }] = await admin.fetchTopicOffsetsByTimestamp(topic, 1_700_000_004_500)
  assert.equal(offset, '5')
  const found = await client.read(topic, 5, {}, offset)
  assert.deepEqual(values(found).slice(-5), ['5', '6', '7', '8', '9'])
  assert.equal(found.at(-1).timestamp, '1700000009000')
})

withClient('beginning and end offsets', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  const offsets = async () => (await admin.fetchTopicOffsets(topic)).map(({ low, high }) => [low, high])
  assert.deepEqual(await offsets(), [['0', '0']])
  await client.produce(topic, numbered(0, 7))
  assert.deepEqual(await offsets(), [['0', '7']])
})

withClient('offset out of range reset', async (client) => {
  const topic = await client.create()
  await client.produce(topic, numbered(0, 3))
  assert.deepEqual(values(await client.read(topic, 3, {}, 1000)).slice(-3), ['0', '1', '2'])
})

withClient('read uncommitted and committed', async (client) => {
  const topic = await client.create()
  await client.produce(topic, numbered(0, 3))
  assert.deepEqual(values(await client.read(topic, 3, { readUncommitted: true })), ['0', '1', '2'])
  assert.deepEqual(values(await client.read(topic, 3, { readUncommitted: false })), ['0', '1', '2'])
})

for (const assigner of ['roundRobin', 'cooperativeSticky']) {
  withClient(`group of three ${assigner}`, async (client) => {
    const topic = await client.create(6)
    const found = []
    const members = []
    const join = async () => {
      const config = { partitionAssigners: [PartitionAssigners[assigner]], autoCommitInterval: 50 }
      const member = await client.consumer(client.name, config)
      await member.subscribe({ topic })
      await member.run({ eachMessage: async ({ message }) => void found.push(message.value.toString()) })
      members.push(member)
    }
    const waitForShares = (sizes) =>
      until(`shares of ${sizes}`, () => `${members.map((member) => member.assignment().length).sort()}` === `${sizes}`)
    const producer = await client.producer()
    const produceAndRead = async (first, last) => {
      const messages = numbered(first, last).map((message, i) => ({ ...message, partition: i % 6 }))
      await producer.send({ topic, messages })
      await until(`${last} messages in all`, () => new Set(found).size >= last)
    }
    await Promise.all([join(), join()])
    await waitForShares([3, 3])
    await produceAndRead(0, 60)
    await join()
    await waitForShares([2, 2, 2])
    await produceAndRead(60, 120)
    await client.close(members.pop())
    await waitForShares([3, 3])
    await produceAndRead(120, 180)
    assert.deepEqual(found.map(Number).sort((a, b) => a - b), [...Array(180).keys()])
  })
}

withClient('resume from commits', async (client) => {
  const topic = await client.create()
  await client.produce(topic, numbered(0, 10))
  const consume = async (count) => {
    const consumer = await client.consumer(client.name, { autoCommit: false })
    const found = []
    await consumer.subscribe({ topic })
    await consumer.run({ eachMessage: async ({ message }) => void found.push(message.value.toString()) })
    await until(`${count} messages`, () => found.length >= count)
    await consumer.commitOffsets([{ topic, partition: 0, offset: '4' }])
    const [committed] = await consumer.committed([{ topic, partition: 0 }])
    assert.equal(committed.offset, '4')
    await client.close(consumer)
    return found
  }
  assert.deepEqual((await consume(4)).slice(0, 4), ['0', '1', '2', '3'])
  assert.deepEqual(await consume(6), ['4', '5', '6', '7', '8', '9'])
})

withClient('static membership', async (client) => {
  const topic = await client.create(2)
  const join = async (instance) => {
    const member = await client.consumer(client.name, {}, { 'group.instance.id': instance })
    await member.subscribe({ topic })
    await member.run({ eachMessage: async () => {} })
    return member
  }
  const [one, two] = [await join('one'), await join('two')]
  await until('a partition each', () => one.assignment().length === 1 && two.assignment().length === 1)
  const before = two.assignment()
  // A static member that closes does not leave, and gets its partition back when it returns.
  await client.close(two)
  const again = await join('two')
  await until('its partition is back', () => again.assignment().length === 1)
  assert.deepEqual(again.assignment(), before)
})

withClient('admin: create topics', async (client) => {
  const topic = await client.create(4, { 'retention.ms': 1000 })
  const admin = await client.admin()
  const [found] = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(found.partitions.length, 4)
  assert.equal(await admin.createTopics({ topics: [{ topic }] }), false, 'it is there already')
  assert.ok((await admin.listTopics()).includes(topic))
})

withClient('admin: errors of create topics', async (client) => {
  const admin = await client.admin()
  const one = (changes) => admin.createTopics({ topics: [{ topic: client.name, numPartitions: 1, replicationFactor: 1, ...changes }] })
  await failure(one({ topic: 'a b' }), ErrorCodes.ERR_TOPIC_EXCEPTION)
  await failure(one({ replicationFactor: 99 }), ErrorCodes.ERR_INVALID_REPLICATION_FACTOR)
  await failure(one({ configEntries: [{ name: 'no.such.setting', value: '1' }] }), ErrorCodes.ERR_INVALID_CONFIG)
})

withClient('admin: delete records', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  await client.produce(topic, numbered(0, 10))
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
  const [{ low, high }] = await admin.fetchTopicOffsets(topic)
  assert.deepEqual([low, high], ['4', '10'])
  assert.deepEqual(values(await client.read(topic, 6)), values(numbered(4, 10)))
})

withClient('admin: groups', async (client) => {
  const topic = await client.create()
  const groupId = client.name
  const admin = await client.admin()
  await client.produce(topic, numbered(0, 5))
  const consumer = await client.consumer(groupId)
  let count = 0
  await consumer.subscribe({ topic })
  await consumer.run({ eachMessage: async () => void count++ })
  await until('five messages', () => count === 5)
  const { groups } = await admin.describeGroups([groupId])
  assert.equal(groups[0].members.length, 1)
  await failure(admin.deleteGroups([groupId]), ErrorCodes.ERR_NON_EMPTY_GROUP)
  await client.close(consumer)
  assert.ok((await admin.listGroups()).groups.some((group) => group.groupId === groupId))
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  assert.equal(partitions[0].offset, '5')
  await admin.deleteGroups([groupId])
  assert.ok(!(await admin.listGroups()).groups.some((group) => group.groupId === groupId))
})

withClient('admin: delete topics', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  await admin.deleteTopics({ topics: [topic] })
  await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  await failure(admin.deleteTopics({ topics: [topic] }), ErrorCodes.ERR_UNKNOWN_TOPIC_OR_PART)
  await failure(admin.fetchTopicOffsets(topic), ErrorCodes.ERR_UNKNOWN_TOPIC_OR_PART)
})
