// aedes on a port of this machine: `node broker.js PORT`. It keeps what it has in memory, and prints a line an event.

import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const aedes = await Aedes.createBroker({ id: 'aedes' })
const say = (...words) => console.log(words.join(' '))

aedes.on('clientReady', (client) => say(client.id, 'connected'))
aedes.on('clientDisconnect', (client) => say(client.id, 'disconnected'))
aedes.on('clientError', (client, error) => say(client.id, 'failed:', error.message))
aedes.on('connectionError', (client, error) => say(client.id, 'failed:', error.message))
aedes.on('subscribe', (asked, client) => say(client?.id, 'subscribed', ...asked.map((each) => each.topic)))
aedes.on('unsubscribe', (topics, client) => say(client?.id, 'unsubscribed', ...topics))

createServer(aedes.handle).listen(Number(process.argv[2]), '127.0.0.1')
