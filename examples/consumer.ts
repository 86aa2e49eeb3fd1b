// Print one chat as it grows, up to the end of its next job.
//
// npm install amqplib && npm install --save-dev typescript @types/amqplib @types/node
// Beside it: schemas/typescript/index.ts of this repository, as aimicromind.ts.
// Usage: node consumer.js AMQP_URL CHAT [PREFIX]
import { connect, type ConsumeMessage } from "amqplib";
import { isKnown, type ReceivedEvent } from "./aimicromind";

async function follow(url: string, chat: string, prefix: string): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  // Gone with the connection; what is published until the next one is missed.
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, `${prefix}.events`, `chat.${chat}.#`);
  await new Promise<void>((resolve, reject) => {
    let attempt = 0;
    const take = (message: ConsumeMessage | null): void => {
      if (message === null) return reject(new Error("the queue is gone"));
      const event: ReceivedEvent = JSON.parse(message.content.toString());
      // The highest attempt wins, and the first end is the end.
      if (event.attempt < attempt) return;
      if (event.attempt > attempt && attempt > 0) console.log("\n(again)");
      attempt = event.attempt;
      if (!isKnown(event)) return;
      if (event.event === "token") process.stdout.write(event.data);
      if (event.event === "end") {
        console.log(`\n${event.data.status}`);
        resolve();
      }
    };
    channel.consume(queue, take, { noAck: true }).then(() => console.error("following"), reject);
  });
  await connection.close();
}

const [url, chat, prefix] = process.argv.slice(2);
if (url === undefined || chat === undefined) throw new Error("usage: consumer.js AMQP_URL CHAT [PREFIX]");
void follow(url, chat, prefix ?? "aimicromind");
