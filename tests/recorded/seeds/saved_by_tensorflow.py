import tensorflow as tf

# Assuming 'model' is your trained TensorFlow model
model = tf.keras.models.Sequential([
  tf.keras.layers.Dense(128, activation='relu', input_shape=(10,)),
  tf.keras.layers.Dense(10, activation='softmax')
])

# Compile the model (necessary before saving if not already done)
model.compile(optimizer='adam',
              loss='categorical_crossentropy',
              metrics=['accuracy'])


# Define the export path
export_path = "./my_model"

# Export the model using tf.saved_model.save
tf.saved_model.save(model, export_path)

# Verification: Load the model back to ensure successful saving
reloaded_model = tf.saved_model.load(export_path)
# Verify the reloaded model's structure and weights, e.g., using reloaded_model.summary() or comparing weights directly.
