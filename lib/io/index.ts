export { writeAtomically, writeFileAtomically } from './atomicFile.js';
export {
  type Checkpoint,
  type CheckpointParts,
  type CheckpointState,
  checkpointFile,
  lastGoodCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
  readCheckpoint,
  restore,
  saveCheckpoint,
} from './checkpoint.js';
export {
  type FileArray,
  type FileTensor,
  readSafetensors,
  type TensorFile,
  type TensorSource,
  writeSafetensors,
} from './safetensors.js';
