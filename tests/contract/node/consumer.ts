// What a consumer in Node does with events: one chat's text as it grows, and a line for the rest.
import {
  assertNever,
  isKnown,
  type CancelRequest,
  type EndStatus,
  type KnownEvent,
  type PredictionJob,
  type ReceivedEvent,
} from "./aimicromind";

export interface Chat {
  attempt: number;
  text: string;
  status: EndStatus | null;
  lines: string[];
}

export const job: PredictionJob = { chatflowId: "support", question: "What is a queue?", jobId: "job-1" };
export const cancel: CancelRequest = { cancel: { jobId: "job-1" } };

export function begin(): Chat {
  return { attempt: 0, text: "", status: null, lines: [] };
}

/** The highest attempt wins, the first end of a job ends it. */
export function take(chat: Chat, event: ReceivedEvent): void {
  if (chat.status !== null || event.attempt < chat.attempt) return;
  chat.attempt = event.attempt;
  chat.lines.push(isKnown(event) ? line(chat, event) : `${event.event}: not known here`);
}

function line(chat: Chat, event: KnownEvent): string {
  switch (event.event) {
    case "start":
      chat.text = "";
      return `start ${Object.keys(event.data.tags).join()}`;
    case "token":
      chat.text += event.data;
      return event.data.trim();
    case "sourceDocuments":
      return event.data.map((document) => document.pageContent).join();
    case "usedTools":
    case "calledTools":
      return event.data.map((used) => used?.tool ?? "none").join();
    case "metadata":
      return event.data.chatMessageId ?? "not saved";
    case "thinking":
      return `${event.data} (${event.duration ?? 0} s)`;
    case "agentReasoning":
      return event.data.map((agent) => agent.agentName).join();
    case "agentFlowEvent":
      return event.data;
    case "nextAgentFlow":
      return `${event.data.nodeLabel} ${event.data.status}`;
    case "agentFlowExecutedData":
      return event.data.map((node) => node.nodeLabel).join();
    case "action":
      return event.data.id;
    case "usageMetadata":
      return `${event.data.total_tokens ?? 0} tokens`;
    case "agent_trace":
      return event.data.step;
    case "artifacts":
      return `${event.data.length} files`;
    case "nextAgent":
    case "fileAnnotations":
    case "tool":
    case "abort":
    case "tts_start":
    case "tts_data":
    case "tts_end":
      return event.event;
    case "other":
      return event.data.name;
    case "retry":
      return `${event.data.kind}, attempt ${event.data.nextAttempt} follows`;
    case "error":
      return event.data.kind === "rate_limited" ? "try later" : event.data.message;
    case "end":
      chat.status = event.data.status;
      return event.data.status;
    default:
      return assertNever(event);
  }
}
