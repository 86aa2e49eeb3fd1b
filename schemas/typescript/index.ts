// Messages of AiMicromind predictions on RabbitMQ. Written by `make contract`, not by hand.
//
// The rule for consumers: the highest `attempt` wins (its `start` replaces what was shown),
// the first `end` of a job ends it.

/** The endpoint stopped the run on request. */
export interface AbortEvent extends ChatEvent {
  event: "abort";
  data: unknown;
}

/** A question to a human; the flow waits until a job answers it with `humanInput`. */
export interface Action {
  /** Id of the action. */
  id: string;
  /** Labels of the answers, by `approve` and `reject`. */
  mapping?: Readonly<Record<string, unknown>> | null;
  /** Buttons to show. */
  elements?: readonly unknown[] | null;
  /** The node that asks, and its input. */
  data?: Readonly<Record<string, unknown>> | null;
  [field: string]: unknown;
}

/** The flow waits for a human, whose answer is a job with `humanInput`. */
export interface ActionEvent extends ChatEvent {
  event: "action";
  data: Action;
}

/** State of an agent flow: `INPROGRESS`, `FINISHED`, `STOPPED`, `ERROR`, or a newer one. */
export interface AgentFlowEvent extends ChatEvent {
  event: "agentFlowEvent";
  data: string;
}

/** The whole execution list of an agent flow, sent again after every node. */
export interface AgentFlowExecutedDataEvent extends ChatEvent {
  event: "agentFlowExecutedData";
  data: readonly ExecutedNode[];
}

/** What one agent of a multi-agent flow did. */
export interface AgentReasoning {
  /** Name of the agent. */
  agentName: string;
  /** What it said. */
  messages?: unknown;
  /** Tools it called; entries may be null. */
  usedTools?: readonly (UsedTool | null)[] | null;
  /** Passages it found; entries may be null. */
  sourceDocuments?: readonly (SourceDocument | null)[] | null;
  /** Files it made. */
  artifacts?: unknown;
  /** State of the flow after it. */
  state?: unknown;
  /** Type of its node. */
  nodeName?: string | null;
  /** Id of its node. */
  nodeId?: string | null;
  [field: string]: unknown;
}

/** What each agent of a multi-agent flow did so far. */
export interface AgentReasoningEvent extends ChatEvent {
  event: "agentReasoning";
  data: readonly AgentReasoning[];
}

/** A step inside an agent. */
export interface AgentTrace {
  /** Kind of step, such as `agent_action` or `tool_start`. */
  step: string;
  [field: string]: unknown;
}

/** A step inside an agent. */
export interface AgentTraceEvent extends ChatEvent {
  event: "agent_trace";
  data: AgentTrace;
}

/** Files that the flow made. */
export interface ArtifactsEvent extends ChatEvent {
  event: "artifacts";
  data: readonly unknown[];
}

/** Tools an agent is about to use, results still empty. An empty list: it uses none. */
export interface CalledToolsEvent extends ChatEvent {
  event: "calledTools";
  data: readonly (UsedTool | null)[];
}

/** Asks the worker that runs a job of a chat for the events that it has published of it. */
export interface CatchUpRequest {
  catchUp: {
    /** The conversation; that of a job without one is its job id. */
    chatId: string | number;
    /** The job; where absent, whichever of the chat runs. */
    jobId?: string | number | null;
    /** Leave out this event of the job and all before it. It goes with jobId. */
    after?: SeenUpTo | null;
  };
}

/** Stops the jobs of a chat that were submitted at a time or before. */
export interface ChatCancel {
  cancel: {
    /** The conversation; that of a job without one is its job id. */
    chatId: string | number;
    jobId?: null;
  };
  /** When the request was made, by the clock of those who submit jobs. */
  submittedAt: string;
}

/**
 * One message of a job to its chat. The highest `attempt` of a job wins, its `start` replaces what
 * was shown before; the first `end` ends the job. Members of the envelope not named here are
 * skipped.
 */
export interface ChatEvent {
  /** The job this event belongs to. */
  jobId: string;
  /** The conversation. */
  chatId: string;
  /** The flow that runs. */
  chatflowId: string;
  /** Counts from 1. 0 only in the `error` and `end` of a job that never ran. */
  attempt: number;
  /** Position within the attempt, from 0, without gaps. */
  seq: number;
  /** When the worker made the event. */
  time: string;
  /** Name of the event; last word of its routing key, there percent-encoded. */
  event: string;
  /** What the event says; the shape goes by the name. Null where `truncated` is there. */
  data: unknown;
  /** There where the data was too large to be published: its size. */
  truncated?: Truncated | null;
}

/** How the job ended. */
export interface EndData {
  /** `completed` is a whole answer; with anything else `text` may be part of one. */
  status: EndStatus;
  /** Attempts that could publish, this one included. */
  attempts: number;
  /** Prediction calls made, which is what was billed. */
  calls: number;
  /** Events of the winning attempt. */
  events: number;
  /** From the first delivery of the job to its end. */
  durationSeconds: number;
  /** The whole answer of the winning attempt: its tokens in order. */
  text: string;
  /** Whether the answer, or its rest, was fetched from the endpoint's memory. */
  recovered: boolean;
  /** The job's tags. */
  tags: Readonly<Record<string, string>>;
  /** The server's whole JSON answer, where the job asked for it by `answer`. */
  answer?: unknown;
  /** What the job cost, superseded attempts included, where the server told. */
  usage?: Usage | null;
  /** `human` where the flow has paused on an `action` that somebody must answer. */
  waitsFor?: string | null;
  /** Where the job's events begin in the event log, where the worker knows; opaque. */
  handle?: string | null;
}

/** The job ended. A repeat has the same message id; nothing else follows. */
export interface EndEvent extends ChatEvent {
  event: "end";
  data: EndData;
}

/** How a job ended. */
export type EndStatus =
  | "completed"
  | "failed"
  | "cancelled"
  | "expired"
  | "rejected";

/** The job failed for good; its `end` follows. */
export interface ErrorData {
  /** Why it failed. */
  kind: FailureKind;
  /** The same for people. */
  message: string;
  /** Status of the endpoint's response, where that was the reason. */
  httpStatus?: number | null;
}

/** The job failed for good; `end` follows. */
export interface ErrorEvent extends ChatEvent {
  event: "error";
  data: ErrorData;
}

/** One entry of the execution list of an agent flow. */
export interface ExecutedNode {
  /** Id of the node. */
  nodeId: string;
  /** Its title in the editor. */
  nodeLabel: string;
  /** Input, output and state of the node. */
  data: Readonly<Record<string, unknown>>;
  /** Nodes that led to it. */
  previousNodeIds: readonly string[];
  /** `INPROGRESS`, `FINISHED`, `STOPPED`, `ERROR`, or what a newer endpoint adds. */
  status: string;
  [field: string]: unknown;
}

/** Why an attempt or a job failed. Messages may be reworded, these values stay. */
export type FailureKind =
  | "unauthorized"
  | "forbidden"
  | "chatflow_not_found"
  | "bad_request"
  | "rate_limited"
  | "endpoint_unavailable"
  | "endpoint_error"
  | "no_answer"
  | "stream_cut"
  | "stream_stalled"
  | "stream_mixed"
  | "timeout"
  | "too_large"
  | "tls_error"
  | "redirect_refused"
  | "configuration"
  | "invalid_job"
  | "repeat_unsafe"
  | "delivery_limit"
  | "expired"
  | "cancelled"
  | "shutdown"
  | "internal";

/** Files that the answer refers to. */
export interface FileAnnotationsEvent extends ChatEvent {
  event: "fileAnnotations";
  data: unknown;
}

/**
 * An event whose name has no class here, or whose data has not the shape expected for it. So a
 * flow's own events and those of a newer worker arrive, with their data untouched.
 */
export interface GenericEvent extends ChatEvent {
  /** Name of the event; last word of its routing key, there percent-encoded. */
  event: string;
  /** What the event says; the shape goes by the name. Null where `truncated` is there. */
  data: unknown;
}

/** Stops one job. */
export interface JobCancel {
  cancel: {
    /** The job; it need not have been submitted yet. */
    jobId: string | number;
    chatId?: null;
  };
}

/** The endpoint's own record of the answer. Never holds the answer's text. */
export interface Metadata {
  /** The conversation, as in the envelope. */
  chatId?: string | null;
  /** The chatId that this call had at the endpoint: its messages are saved under it. */
  endpointChatId?: string | null;
  /** Id of the saved answer. */
  chatMessageId?: string | null;
  /** The question that was answered. */
  question?: string | null;
  /** The memory session that the flow used. */
  sessionId?: string | null;
  /** Kind of memory that the flow has. */
  memoryType?: string | null;
  /** The open action, when a human must answer. */
  action?: unknown;
  /** Questions that the endpoint suggests next. */
  followUpPrompts?: unknown;
  /** Variables of the flow after the run. */
  flowVariables?: unknown;
  [field: string]: unknown;
}

/** The endpoint's record of a successful answer, shortly before its end. */
export interface MetadataEvent extends ChatEvent {
  event: "metadata";
  data: Metadata;
}

/** The agent that takes over. */
export interface NextAgentEvent extends ChatEvent {
  event: "nextAgent";
  data: unknown;
}

/** A node of an agent flow that began or ended. */
export interface NextAgentFlowEvent extends ChatEvent {
  event: "nextAgentFlow";
  data: NodeStatus;
}

/** A node of an agent flow that began or ended. */
export interface NodeStatus {
  /** Id of the node. */
  nodeId: string;
  /** Its title in the editor. */
  nodeLabel: string;
  /** `INPROGRESS`, `FINISHED`, `STOPPED`, `ERROR`, or what a newer endpoint adds. */
  status: string;
  /** What went wrong, with `ERROR`. */
  error?: unknown;
  [field: string]: unknown;
}

/** An event of the flow whose own name could not be used. */
export interface OtherData {
  /** The name the flow gave it. */
  name: string;
  /** Its data, as it came. */
  data: unknown;
}

/** An event of the flow whose own name the worker uses itself, or which fits no routing key. */
export interface OtherEvent extends ChatEvent {
  event: "other";
  data: OtherData;
}

/** One request for a prediction. Fields not named here are kept and sent to the endpoint. */
export interface PredictionJob {
  /** The flow to run. */
  chatflowId: string | number;
  /** What the user asks. Required unless form, humanInput, action or uploads is there. */
  question?: string | null;
  /** The conversation; names the routing keys of its events. Defaults to the job id. */
  chatId?: string | number | null;
  /** Names the job in all its events. Defaults to the `message_id` of the AMQP message. */
  jobId?: string | number | null;
  /** `json`: ask without streaming, and put the server's whole JSON into `end.data.answer`. */
  answer?: "json" | null;
  /** Limit of one attempt. Can only lower the worker's own. */
  timeoutSeconds?: number | null;
  /** When the whole job expires. Can only lower the worker's own limit. */
  expiresAt?: string | null;
  /** Calls to the endpoint that may be begun. Can only lower the worker's own limit. */
  maxCalls?: number | null;
  /** Retired: use `maxCalls`. A job that sets it is invalid. */
  maxAttempts?: null;
  /**
   * The id of the job before this one in its chat: this one begins after that one's `end`. It also
   * begins while that one waits after a failure, or after 30 s if no worker knows that one.
   */
  after?: string | number | null;
  /** Whether running the flow twice is harmless. Absent: the worker judges by what it saw. */
  idempotent?: boolean | null;
  /** The producer's own notes, echoed in `start` and `end`. At most 16 KiB as JSON. */
  tags?: Readonly<Record<string, string>> | null;
  /** Settings of the flow for this call, as the endpoint takes them. */
  overrideConfig?: Readonly<Record<string, unknown>> | null;
  /** Earlier messages, as the endpoint takes them. */
  history?: unknown;
  /** Files, as the endpoint takes them. */
  uploads?: unknown;
  /** Values of the flow's form, in place of a question. */
  form?: unknown;
  /** Answer to a paused agent flow. */
  humanInput?: unknown;
  /** Answer to an action that the flow asked for. */
  action?: unknown;
  /** Address the endpoint stores with the conversation. */
  leadEmail?: unknown;
  /** Whatever it says, it is sent as the worker asks: true, unless `answer` is `json`. */
  streaming?: unknown;
  [field: string]: unknown;
}

/** This attempt is over: drop what it showed. */
export interface RetryData {
  /** Why it ended. */
  kind: FailureKind;
  /** The same for people. */
  message: string;
  /** The attempt that follows. */
  nextAttempt: number;
  /** How long until it begins, at least. */
  delaySeconds: number;
}

/** This attempt is over and another follows. */
export interface RetryEvent extends ChatEvent {
  event: "retry";
  data: RetryData;
}

/** The last event of a job that the asker has. */
export interface SeenUpTo {
  /** Its attempt. */
  attempt: number;
  /** Its place in the attempt. */
  seq: number;
}

/**
 * One part of the answer to a request to catch up. The answer is whole with the part whose `part`
 * equals `parts`; a part 1 begins it anew. It has all events of the attempt that were published
 * before its last part.
 */
export interface Snapshot {
  /** The job that the worker runs now in the chat; null: none. */
  jobId: string | null;
  /** The conversation. */
  chatId: string;
  /** The attempt that it runs now; 0: it has begun none. */
  attempt: number;
  /**
   * Events of this attempt in their order, as they were published, each an object. None where the
   * worker runs no job, or another one than was asked for.
   */
  events: readonly ChatEvent[];
  /** Number of the part, from 1. */
  part: number;
  /** How many parts there are, as far as is known: the events may become more meanwhile. */
  parts: number;
  /**
   * There where events are missing that the worker no longer has: it has those from this `seq` on.
   * `events` is empty then: read the event log.
   */
  completeFrom?: number | null;
}

/** A passage that the answer rests on. */
export interface SourceDocument {
  /** The passage. */
  pageContent: string;
  /** Where it comes from, as the flow's loader describes it. */
  metadata: Readonly<Record<string, unknown>>;
  /** Its id in the vector store. */
  id?: string | null;
  [field: string]: unknown;
}

/** The passages that the answer rests on. */
export interface SourceDocumentsEvent extends ChatEvent {
  event: "sourceDocuments";
  data: readonly SourceDocument[];
}

/** Comes with the first sign of an answer. */
export interface StartData {
  /** The job's tags. */
  tags: Readonly<Record<string, string>>;
  /** Whether the broker had handed the job out before. */
  redelivered: boolean;
  /** What the endpoint's own `start` carried, if that came first. No part of the answer. */
  upstream: unknown;
  /** Where the job's events begin in the event log, where the worker knows; opaque. */
  handle?: string | null;
}

/** First event of an attempt that shows anything: drop what earlier attempts showed. */
export interface StartEvent extends ChatEvent {
  event: "start";
  data: StartData;
}

/** Asks each worker for a report. */
export interface StatusRequest {
  status: {
    /** A job: the report tells whether the worker has it. */
    jobId?: string | number | null;
  };
}

/** A piece of the model's reasoning; no part of the answer. */
export interface ThinkingEvent extends ChatEvent {
  event: "thinking";
  data: string;
  /** How long the model thought, as the endpoint counts it. Beside `data`, where known. */
  duration?: number | null;
}

/** The next piece of the answer: append it. May be empty, or the whole answer. */
export interface TokenEvent extends ChatEvent {
  event: "token";
  data: string;
}

/** A tool at work. */
export interface ToolEvent extends ChatEvent {
  event: "tool";
  data: unknown;
}

/** Stands beside `data: null` where the endpoint's event was too large to be published. */
export interface Truncated {
  /** Size of the data that was left out. */
  bytes: number;
}

/** A piece of spoken output. */
export interface TtsDataEvent extends ChatEvent {
  event: "tts_data";
  data: unknown;
}

/** Spoken output is over. */
export interface TtsEndEvent extends ChatEvent {
  event: "tts_end";
  data: unknown;
}

/** Spoken output begins. */
export interface TtsStartEvent extends ChatEvent {
  event: "tts_start";
  data: unknown;
}

/**
 * Tokens that the model's provider counted, summed over all calls of the job that told. Calls that
 * were lost with a worker are missing, and so are flows that send no `usageMetadata`.
 */
export interface Usage {
  /** Tokens of the prompts. */
  input?: number | null;
  /** Tokens of the answers. */
  output?: number | null;
  /** All of them. */
  total?: number | null;
}

/** Tokens counted by the model's provider. */
export interface UsageMetadata {
  /** Tokens of the prompt. */
  input_tokens?: number | null;
  /** Tokens of the answer. */
  output_tokens?: number | null;
  /** Both together. */
  total_tokens?: number | null;
  [field: string]: unknown;
}

/** Tokens counted by the model's provider. */
export interface UsageMetadataEvent extends ChatEvent {
  event: "usageMetadata";
  data: UsageMetadata;
}

/** One call of a tool. */
export interface UsedTool {
  /** Name of the tool. */
  tool: string;
  /** Arguments, an object as a rule. */
  toolInput?: unknown;
  /** Result; an empty string while the call is under way. */
  toolOutput?: unknown;
  [field: string]: unknown;
}

/** Tools that were called, with their results. Entries may be null. */
export interface UsedToolsEvent extends ChatEvent {
  event: "usedTools";
  data: readonly (UsedTool | null)[];
}

/** What one worker does, by its own count. Counters begin at zero with its process. */
export interface WorkerReport {
  /** Id of the worker's session; it has another one after a lost connection. */
  worker: string;
  /** Name of its machine, container or pod. */
  host: string;
  /** Number of its process there. */
  pid: number;
  /** Version of its program. */
  version: string;
  /** Time since its process began. */
  upSeconds: number;
  /** Whether it takes jobs. */
  ready: boolean;
  /** Why it takes none; empty if it is ready. */
  obstacles: readonly string[];
  /** Most jobs that it runs at a time. */
  slots: number;
  /** Jobs that it runs. */
  running: number;
  /** Jobs that it holds and has not begun: they wait for their chat, a slot or the endpoint. */
  waiting: number;
  /** Those of them that wait for their chat. */
  waitingForChat: number;
  /** Its consumers of the queue of jobs, cancelled ones included until their jobs are settled. */
  consumers: number;
  /** Jobs that it has ended. */
  ended: number;
  /** Events that it has published, copies for a `reply_to` included. */
  events: number;
  /** Time since the oldest job that it holds was submitted; null: it holds none, or none tells. */
  oldestSeconds?: number | null;
  /** What it does with the job that was asked for; null: it does not have it, or none was. */
  job?: string | null;
}

/** One type for each event name. */
export type KnownEvent =
  | StartEvent
  | TokenEvent
  | SourceDocumentsEvent
  | UsedToolsEvent
  | MetadataEvent
  | ThinkingEvent
  | CalledToolsEvent
  | AgentReasoningEvent
  | NextAgentEvent
  | AgentFlowEvent
  | NextAgentFlowEvent
  | AgentFlowExecutedDataEvent
  | ArtifactsEvent
  | FileAnnotationsEvent
  | ActionEvent
  | UsageMetadataEvent
  | ToolEvent
  | AbortEvent
  | TtsStartEvent
  | TtsDataEvent
  | TtsEndEvent
  | AgentTraceEvent
  | OtherEvent
  | RetryEvent
  | ErrorEvent
  | EndEvent;

/** Any event: switch over `event` once `isKnown` says that it is one of these. */
export type ReceivedEvent = KnownEvent | GenericEvent;

/** What may be published to the exchange of cancel requests. */
export type CancelRequest = JobCancel | ChatCancel;

/** Name of an event that has a type here. */
export type EventName = KnownEvent["event"];

/** Every name that has a type here. */
export const EVENT_NAMES: readonly EventName[] = [
  "start",
  "token",
  "sourceDocuments",
  "usedTools",
  "metadata",
  "thinking",
  "calledTools",
  "agentReasoning",
  "nextAgent",
  "agentFlowEvent",
  "nextAgentFlow",
  "agentFlowExecutedData",
  "artifacts",
  "fileAnnotations",
  "action",
  "usageMetadata",
  "tool",
  "abort",
  "tts_start",
  "tts_data",
  "tts_end",
  "agent_trace",
  "other",
  "retry",
  "error",
  "end",
];

/**
 * Tell whether an event has a type here, by its name.
 *
 * The data of `end`, `error`, `other`, `retry`, `start`, `token`
 * always is as its type says. That of the others is written by the endpoint, and a newer one
 * may write it otherwise: look before you use it.
 */
export function isKnown(event: ReceivedEvent): event is KnownEvent {
  return (EVENT_NAMES as readonly string[]).includes(event.event);
}

/** Stands in the `default` of a `switch` over all events: does not compile if one is missing. */
export function assertNever(event: never): never {
  throw new Error(`not an event: ${(event as { event?: unknown }).event}`);
}
