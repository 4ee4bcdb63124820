export { writeAtomically, writeFileAtomically } from './atomicFile.js';
export {
  type Checkpoint,
  type CheckpointParts,
  type CheckpointState,
  checkpointFile,
  lastGoodCheckpoint,
  listCheckpoints,
  neededCheckpoint,
  pruneCheckpoints,
  readCheckpoint,
  restore,
  saveCheckpoint,
  setAsideCheckpoints,
} from './checkpoint.js';
export { lockFolder } from './runLock.js';
export {
  type FileArray,
  type FileTensor,
  readSafetensors,
  type TensorFile,
  type TensorSource,
  writeSafetensors,
} from './safetensors.js';
