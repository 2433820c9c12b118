'use strict'
// Gives a Node test run a Chronik broker of its own.

const { spawn } = require('node:child_process')
const { randomBytes } = require('node:crypto')
const fs = require('node:fs')
const readline = require('node:readline')

/** Starts a broker and resolves to its address. Its data goes with it, and it ends when this process does. */
async function start(binary, log = 'inherit') {
  const broker = spawn(binary, ['standalone', '--ephemeral', '--listen', '127.0.0.1:0', '--until-stdin-closes'], {
    stdio: ['pipe', 'pipe', log]
  })
  const ready = await new Promise((resolve, reject) => {
    readline.createInterface({ input: broker.stdout }).once('line', resolve)
    broker.once('error', reject)
    broker.once('exit', (code) => reject(new Error(`${binary} ended with exit code ${code} before it was ready`)))
  })
  // The broker does not keep this process alive; when this process ends, the broker's input closes.
  for (const handle of [broker, broker.stdin, broker.stdout]) handle.unref()
  return JSON.parse(ready).bootstrap
}

let shared

/** The address of the broker that all tests of this process share. */
function bootstrap() {
  if (process.env.BOOTSTRAP) return Promise.resolve(process.env.BOOTSTRAP)
  const log = process.env.BROKER_LOG ? fs.openSync(process.env.BROKER_LOG, 'a') : 'inherit'
  shared ??= start(process.env.BROKER, log)
  return shared
}

/** A name for a test's topics and groups that no other run has used. */
const unique = (test) => `${test.replace(/[^a-z0-9]+/gi, '-')}-${randomBytes(4).toString('hex')}`

/** Awaits `attempt` until it gives something true, and returns that; throws after `seconds`. */
async function until(what, attempt, seconds = 30) {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const value = await attempt()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`after ${seconds} s still not true: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

module.exports = { start, bootstrap, unique, until }
