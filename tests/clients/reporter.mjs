// A reporter for Node's test runner: one line for each test, and what went wrong below it.

export default async function* (source) {
  for await (const event of source) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue
    const { name, nesting, details, skip } = event.data
    const outcome = event.type === 'test:fail' ? 'FAIL' : skip === undefined ? 'ok' : 'skipped'
    yield `${'  '.repeat(nesting)}${outcome} ${name} (${Math.round(details.duration_ms)} ms)\n`
    if (outcome === 'skipped' && typeof skip === 'string') yield `    ${skip}\n`
    if (outcome === 'FAIL') {
      const error = details.error?.cause ?? details.error
      yield `${error?.stack ?? error}`.replace(/^/gm, '    ') + '\n'
    }
  }
}
