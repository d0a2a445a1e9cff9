import tensorflow as tf

# Assuming 'model' is your trained TensorFlow model (from previous examples)

# Convert the model to TensorFlow Lite format
converter = tf.lite.TFLiteConverter.from_saved_model(export_path)
tflite_model = converter.convert()

# Save the TensorFlow Lite model
with open('model.tflite', 'wb') as f:
  f.write(tflite_model)
