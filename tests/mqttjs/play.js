// Plays a scenario with MQTT.js as it comes from npm, and prints what happened, a JSON object a line. What should have
// happened is said by the test that runs this, which also ends it when it takes too long.
import { once, on } from 'node:events';
import mqtt from 'mqtt';

const { scenario, url, protocolVersion, alice, bob, chat } = JSON.parse(process.argv[2]);
const scenarios = { commands, broker };

const print = (what, details) => console.log(JSON.stringify({ what, ...details }));

/** Connects. The publications that arrive wait until they are asked for. */
async function open(name, credentials, options = {}) {
  const client = mqtt.connect(url, {
    protocolVersion,
    clientId: name,
    reconnectPeriod: 0,
    ...credentials,
    ...options,
  });
  client.arriving = on(client, 'message');
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'puback') client.puback = packet;
  });
  await connected(name, client);
  return client;
}

async function connected(name, client) {
  const [{ sessionPresent }] = await once(client, 'connect');
  print('connected', { name, sessionPresent });
}

async function subscribe(client, filter, qos) {
  const granted = await client.subscribeAsync(filter, { qos });
  print('granted', { filter, qos: granted[0].qos });
}

/** Publishes; done when it is acknowledged. */
async function publish(client, topic, payload, options) {
  client.puback = undefined;
  await client.publishAsync(topic, payload, options);
  const { reasonCode = 0, properties } = client.puback ?? {};
  print('published', { qos: options.qos, reasonCode, seq: properties?.userProperties?.seq });
}

async function receive(client) {
  const { value: [topic, payload, { qos, retain }] } = await client.arriving.next();
  print('received', { topic, payload: payload.toString(), qos, retain });
}

/** A device that speaks in a chat, and one that lasts and listens. */
async function commands() {
  const send = (localId, qos) =>
    publish(sender, `chats/${chat}/send`, JSON.stringify({ type: 'TEXT', text: localId, localId }), { qos });

  const sender = await open('sender', alice);
  const listener = await open('listener', bob, { clean: false, properties: { sessionExpiryInterval: 3600 } });
  await subscribe(listener, 'chats/+/messages', 1);
  await send('first', 1);
  await receive(listener);

  await listener.endAsync();
  await send('second', 1);
  listener.reconnect();
  await connected('listener', listener);
  await receive(listener);

  await send('third', 2);
  await receive(listener);
  await sender.endAsync();
  await listener.endAsync();
}

/** Two devices behind a mount, to which the server is an ordinary broker. */
async function broker() {
  const mounted = { ...alice, username: `${alice.username}?mount=x` };
  const sensor = await open('sensor', mounted, {
    will: { topic: 'house/sensor', payload: 'gone', qos: 1, retain: false },
  });
  const panel = await open('panel', mounted);
  await publish(sensor, 'house/kitchen/light', 'on', { qos: 1, retain: true });
  await subscribe(panel, 'house/#', 2);
  await receive(panel);
  for (const qos of [0, 1, 2]) {
    await publish(sensor, 'house/kitchen/temperature', `at ${qos}`, { qos });
    await receive(panel);
  }
  // Without DISCONNECT.
  await sensor.endAsync(true);
  await receive(panel);
  await panel.endAsync();
}

await scenarios[scenario]();
print('done');
