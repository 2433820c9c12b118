'use strict'

const assert = require('node:assert/strict')
const { randomBytes } = require('node:crypto')
const { test } = require('node:test')
const { CompressionTypes, ConfigResourceTypes, Kafka, PartitionAssigners, Partitioners, logLevel } = require('kafkajs')
const { bootstrap, unique, until } = require('../chronik.js')
require('./codecs.js')

/** Makes clients of one broker; they are disconnected when the test is over. */
class Client {
  constructor(address, name) {
    this.kafka = new Kafka({
      clientId: 'tests',
      brokers: [address],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 6 }
    })
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
    const topics = [{ topic, numPartitions, replicationFactor: 1, configEntries }]
    assert.equal(await admin.createTopics({ topics, waitForLeaders: true }), true)
    return topic
  }

  producer(config = {}) {
    return this.connected(this.kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...config }))
  }

  async produce(topic, messages, send = {}, config = {}) {
    const producer = await this.producer(config)
    const sent = await producer.send({ topic, messages, ...send })
    return sent
  }

  async consumer(groupId = unique('group'), config = {}) {
    const defaults = { sessionTimeout: 6000, heartbeatInterval: 200, rebalanceTimeout: 10000, maxWaitTimeInMs: 100 }
    return this.connected(this.kafka.consumer({ groupId, ...defaults, ...config }))
  }

  /** Reads a topic from its beginning until there are `count` messages. */
  async read(topic, count, config = {}, seek = undefined) {
    const consumer = await this.consumer(undefined, config)
    const found = []
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ eachMessage: async ({ partition, message }) => void found.push({ partition, ...message }) })
    if (seek !== undefined) consumer.seek({ topic, partition: 0, offset: String(seek) })
    await until(`${count} messages read`, () => found.length >= count)
    await this.close(consumer)
    return found
  }

  async close(one) {
    this.open.splice(this.open.indexOf(one), 1)
    await one.disconnect()
  }
}

function withClient(name, body) {
  test(name, { timeout: 90_000 }, async () => {
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
const failure = (promise, type) =>
  assert.rejects(promise, (error) => {
    const found = (error.errors ?? [error.cause ?? error]).map((one) => one.type ?? one.name)
    assert.ok(found.includes(type), `expected ${type}, found ${found}: ${error.message}`)
    return true
  })

for (const [codec, compression] of Object.entries(CompressionTypes)) {
  for (const acks of [0, 1, -1]) {
    withClient(`compression ${codec} acks ${acks}`, async (client) => {
      const topic = await client.create()
      const messages = numbered(0, 50).map(({ value }) => ({
        value: Buffer.concat([Buffer.from(value + 'abc'.repeat(50)), randomBytes(20)])
      }))
      await client.produce(topic, messages, { acks, compression })
      const found = await client.read(topic, 50)
      assert.deepEqual(found.map(({ value }) => value), messages.map(({ value }) => value))
      assert.deepEqual(found.map(({ offset }) => Number(offset)), [...Array(50).keys()])
    })
  }
}

withClient('idempotent', async (client) => {
  const topic = await client.create()
  const producer = await client.producer({ idempotent: true, maxInFlightRequests: 1 })
  for (let i = 0; i < 100; i += 10) await producer.send({ topic, acks: -1, messages: numbered(i, i + 10) })
  assert.deepEqual(values(await client.read(topic, 100)), values(numbered(0, 100)))
})

withClient('keyed partitioning', async (client) => {
  const topic = await client.create(3)
  const messages = numbered(0, 90).map(({ value }, i) => ({ key: `key-${i % 9}`, value }))
  await client.produce(topic, messages)
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
  const sent = [{ value: null }, { key: 'k', value: null }, { value: 'v' }, { key: '', value: '' }]
  await client.produce(topic, sent)
  const found = (await client.read(topic, 4)).map(({ key, value }) => [key?.toString() ?? null, value?.toString() ?? null])
  assert.deepEqual(found, sent.map(({ key = null, value }) => [key, value]))
})

withClient('one megabyte records', async (client) => {
  const topic = await client.create(1, { 'max.message.bytes': 4_000_000 })
  const messages = [1, 2, 3].map(() => ({ value: randomBytes(1 << 20) }))
  await client.produce(topic, messages)
  const found = await client.read(topic, 3, { maxBytesPerPartition: 100_000 })
  assert.ok(found.every(({ value }, i) => value.equals(messages[i].value)))
})

withClient('message too large', async (client) => {
  const topic = await client.create(1, { 'max.message.bytes': 10_000 })
  await failure(client.produce(topic, [{ value: 'x'.repeat(20_000) }]), 'MESSAGE_TOO_LARGE')
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
  assert.deepEqual(values(found), ['5', '6', '7', '8', '9'])
  assert.equal(found[0].timestamp, '1700000005000')
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

withClient('unknown topic', async (client) => {
  const admin = await client.admin()
  await failure(admin.fetchTopicOffsets(client.name), 'UNKNOWN_TOPIC_OR_PARTITION')
})

withClient('topic created by first use', async (client) => {
  await client.produce(client.name, numbered(0, 1), {}, { allowAutoTopicCreation: true })
  assert.deepEqual(values(await client.read(client.name, 1)), ['0'])
})

for (const assigner of ['roundRobin']) {
  withClient(`group of three ${assigner}`, async (client) => {
    const topic = await client.create(6)
    const found = []
    const shares = new Map()
    const join = async () => {
      const member = await client.consumer(client.name, { partitionAssigners: [PartitionAssigners[assigner]] })
      member.on(member.events.GROUP_JOIN, ({ payload }) => shares.set(member, payload.memberAssignment[topic] ?? []))
      await member.subscribe({ topic, fromBeginning: true })
      // kafkajs commits what it has read before it takes part in a rebalance.
      await member.run({ eachMessage: async ({ message }) => void found.push(message.value.toString()) })
      return member
    }
    const waitForShares = (sizes) =>
      until(`shares of ${sizes}`, () => {
        const all = [...shares.values()]
        const sum = sizes.reduce((a, b) => a + b)
        return `${all.map((share) => share.length).sort()}` === `${sizes}` && new Set(all.flat()).size === sum
      })
    const producer = await client.producer()
    const produceAndRead = async (first, last) => {
      const messages = numbered(first, last).map((message, i) => ({ ...message, partition: i % 6 }))
      await producer.send({ topic, messages })
      await until(`${last} messages in all`, () => new Set(found).size >= last)
    }
    await Promise.all([join(), join()])
    await waitForShares([3, 3])
    await produceAndRead(0, 60)
    const third = await join()
    await waitForShares([2, 2, 2])
    await produceAndRead(60, 120)
    shares.delete(third)
    await client.close(third)
    await waitForShares([3, 3])
    await produceAndRead(120, 180)
    assert.deepEqual(found.map(Number).sort((a, b) => a - b), [...Array(180).keys()])
  })
}

withClient('resume from commits', async (client) => {
  const topic = await client.create()
  await client.produce(topic, numbered(0, 10))
  const consume = async (count) => {
    const consumer = await client.consumer(client.name)
    const found = []
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => void found.push(message.value.toString()) })
    await until(`${count} messages`, () => found.length >= count)
    await consumer.commitOffsets([{ topic, partition: 0, offset: '4' }])
    await client.close(consumer)
    return found
  }
  assert.deepEqual((await consume(4)).slice(0, 4), ['0', '1', '2', '3'])
  assert.deepEqual(await consume(6), ['4', '5', '6', '7', '8', '9'])
})

withClient('admin: create topics', async (client) => {
  const topic = await client.create(4, { 'retention.ms': 1000 })
  const admin = await client.admin()
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(topics[0].partitions.length, 4)
  assert.equal(await admin.createTopics({ topics: [{ topic }] }), false, 'it is there already')
  assert.equal(await admin.createTopics({ validateOnly: true, waitForLeaders: false, topics: [{ topic: `${topic}-dry` }] }), true)
  assert.ok(!(await admin.listTopics()).includes(`${topic}-dry`))
})

withClient('admin: errors of create topics', async (client) => {
  const admin = await client.admin()
  const one = (changes) => admin.createTopics({ topics: [{ topic: client.name, numPartitions: 1, replicationFactor: 1, ...changes }] })
  await failure(one({ topic: 'a b' }), 'INVALID_TOPIC_EXCEPTION')
  await failure(one({ topic: 'x'.repeat(250) }), 'INVALID_TOPIC_EXCEPTION')
  await failure(one({ numPartitions: 0 }), 'INVALID_PARTITIONS')
  await failure(one({ replicationFactor: 99 }), 'INVALID_REPLICATION_FACTOR')
  await failure(one({ configEntries: [{ name: 'no.such.setting', value: '1' }] }), 'INVALID_CONFIG')
  await failure(one({ configEntries: [{ name: 'retention.ms', value: 'soon' }] }), 'INVALID_CONFIG')
})

withClient('admin: describe and alter configs', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  const type = ConfigResourceTypes.TOPIC
  const config = async () => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type, name: topic }] })
    return Object.fromEntries(resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]))
  }
  assert.equal((await config())['cleanup.policy'], 'delete')
  const resources = [{ type, name: topic, configEntries: [{ name: 'retention.ms', value: '5000' }] }]
  await admin.alterConfigs({ validateOnly: false, resources })
  await until('the change is there', async () => (await config())['retention.ms'] === '5000')
})

withClient('admin: create partitions', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  await until('three partitions', async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 3)
  await failure(admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }), 'INVALID_PARTITIONS')
})

withClient('admin: delete records', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  await client.produce(topic, numbered(0, 10))
  // kafkajs wants to have seen the topic's leaders before.
  await admin.fetchTopicMetadata({ topics: [topic] })
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
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async () => void count++ })
  await until('five messages', () => count === 5)
  const { groups } = await admin.describeGroups([groupId])
  assert.deepEqual([groups[0].state, groups[0].members.length], ['Stable', 1])
  await failure(admin.deleteGroups([groupId]).catch((error) => { throw error.groups[0].error }), 'NON_EMPTY_GROUP')
  await client.close(consumer)
  assert.ok((await admin.listGroups()).groups.some((group) => group.groupId === groupId && group.protocolType === 'consumer'))
  const committed = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset
  assert.equal(await committed(), '5')
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '2' }] })
  assert.equal(await committed(), '2')
  await admin.resetOffsets({ groupId, topic, earliest: true })
  assert.ok(['-2', '0'].includes(await committed()))
  await admin.deleteGroups([groupId])
  assert.ok(!(await admin.listGroups()).groups.some((group) => group.groupId === groupId))
})

withClient('admin: delete topics', async (client) => {
  const topic = await client.create()
  const admin = await client.admin()
  await admin.deleteTopics({ topics: [topic] })
  await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  await failure(admin.deleteTopics({ topics: [topic] }), 'UNKNOWN_TOPIC_OR_PARTITION')
})

withClient('admin: describe cluster', async (client) => {
  const { brokers, controller, clusterId } = await (await client.admin()).describeCluster()
  assert.deepEqual(brokers.map(({ host, port }) => `${host}:${port}`), [client.address])
  assert.equal(controller, brokers[0].nodeId)
  assert.ok(clusterId)
})
